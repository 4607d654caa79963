"""Every error says what its handler needs, is caught as what it is, and survives a copy."""

from __future__ import annotations

import copy
import pickle
from typing import Any
from uuid import UUID

import pytest

from trio_extreme import errors
from trio_extreme.errors import (
    CheckpointBeyondEnd,
    CheckpointError,
    ConnectFailed,
    EventNotFound,
    FrameTooLarge,
    GroupExists,
    GroupNotFound,
    InvalidArgument,
    MetadataUnreadable,
    NotMaster,
    OperationTimedOut,
    OutcomeUnknown,
    ServerError,
    StreamDeleted,
    StreamNotFound,
    SubscriptionDropped,
    TooManyConsumers,
    TrioExtremeError,
    Unsupported,
    WrongExpectedVersion,
)
from trio_extreme.values import Position

ID = UUID(int=1)
CAUSE = OSError("refused")
# Class, arguments, attributes: made in the tests, so that they are what runs the constructors.
EXAMPLES: list[tuple[type[TrioExtremeError], tuple[Any, ...], dict[str, object]]] = [
    (ConnectFailed, ("none", [CAUSE]), {"attempts": (CAUSE,)}),
    (ConnectFailed, ("none",), {"attempts": ()}),
    (OutcomeUnknown, ("?", [ID]), {"event_ids": (ID,)}),
    (OutcomeUnknown, ("?",), {"event_ids": ()}),
    (FrameTooLarge, ("big", 2000, 1000), {"size": 2000, "limit": 1000}),
    (SubscriptionDropped, ("gone", "why"), {"reason": "why"}),
    (WrongExpectedVersion, ("s", 3, 5), {"stream": "s", "expected": 3, "actual": 5}),
    (WrongExpectedVersion, ("s", -1, None), {"stream": "s", "expected": -1, "actual": None}),
    (StreamNotFound, ("s",), {"stream": "s", "last_number": None}),
    (StreamNotFound, ("s", 7), {"stream": "s", "last_number": 7}),
    (CheckpointBeyondEnd, ("stream 's'", 7, 5), {"ours": 7, "servers_last": 5}),
    (CheckpointBeyondEnd, ("stream 's'", 7, None), {"ours": 7, "servers_last": None}),
    (CheckpointBeyondEnd, ("$all", Position(7, 7), Position(5, 5)), {"ours": Position(7, 7)}),
    (StreamDeleted, ("s",), {"stream": "s"}),
    (EventNotFound, ("s", 7), {"stream": "s", "number": 7}),
    (MetadataUnreadable, ("s", 3, "no JSON"), {"stream": "s", "version": 3, "problem": "no JSON"}),
    (NotMaster, ("elsewhere", ("h", 1113)), {"endpoint": ("h", 1113)}),
    (GroupNotFound, ("s", "g"), {"stream": "s", "group": "g"}),
    (GroupExists, ("s", "g"), {"stream": "s", "group": "g"}),
    (TooManyConsumers, ("s", "g"), {"stream": "s", "group": "g"}),
    (Unsupported, ("filters", "20.6"), {"feature": "filters", "since": "20.6"}),
]
each_example = pytest.mark.parametrize(("kind", "arguments", "attributes"), EXAMPLES)


def all_errors() -> list[type[BaseException]]:
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BaseException)]


@each_example
def test_attributes(kind: type[TrioExtremeError], arguments: tuple[Any, ...], attributes: dict[str, object]) -> None:
    error = kind(*arguments)
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert str(error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (WrongExpectedVersion("s", 3, 5), "stream 's' is not at expected version 3: it is at 5"),
        (WrongExpectedVersion("s", 3, None), "stream 's' is not at expected version 3: the server does not say which"),
        (StreamNotFound("s"), "stream 's' does not exist"),
        (StreamDeleted("s"), "stream 's' was deleted for ever"),
        (EventNotFound("s", 7), "stream 's' has no event 7"),
        (
            CheckpointBeyondEnd("stream 's'", 7, 0),
            "stream 's': the place to go on from, 7, is beyond the server's end; its last is 0",
        ),
        (
            CheckpointBeyondEnd("stream 's'", 7, None),
            "stream 's': the place to go on from, 7, is beyond the server's end; it has none",
        ),
        (
            CheckpointBeyondEnd("the log", Position(7, 6), Position(5, 5)),
            "the log: the place to go on from, C:7/P:6, is beyond the server's end; its last is C:5/P:5",
        ),
        (GroupNotFound("s", "g"), "stream 's' has no group 'g'"),
        (GroupNotFound("s", "g", "No such group."), "stream 's' has no group 'g': No such group."),
        (GroupExists("s", "g", "It is there."), "stream 's' has a group 'g' already: It is there."),
        (TooManyConsumers("s", "g"), "group 'g' of stream 's' has all its consumers (subscriber_max_count)"),
        (Unsupported("filters", "20.6"), "this server does not know filters: servers have it since 20.6"),
    ],
)
def test_texts(error: TrioExtremeError, text: str) -> None:
    assert str(error).startswith(text)


@pytest.mark.parametrize("error", all_errors())
def test_one_base_catches_all(error: type[BaseException]) -> None:
    assert issubclass(error, TrioExtremeError)
    assert error.__doc__


def test_builtin_bases() -> None:
    """So that code which knows nothing of us catches what it means."""
    assert issubclass(InvalidArgument, ValueError)
    assert issubclass(OperationTimedOut, TimeoutError)


def test_families() -> None:
    assert issubclass(CheckpointBeyondEnd, CheckpointError)
    assert not issubclass(CheckpointError, ServerError)
    answers = {error.__name__ for error in all_errors() if issubclass(error, ServerError)}
    assert {"WrongExpectedVersion", "StreamNotFound", "StreamDeleted", "AccessDenied", "BadRequest"} < answers
    assert answers.isdisjoint({"ConnectionLost", "OutcomeUnknown", "ProtocolError", "OperationTimedOut"})


@each_example
def test_copies(kind: type[TrioExtremeError], arguments: tuple[Any, ...], attributes: dict[str, object]) -> None:
    """Processes hand errors to each other pickled (pytest-xdist, multiprocessing)."""
    error = kind(*arguments)
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own bytes
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert {name: repr(getattr(other, name)) for name in attributes} == {n: repr(v) for n, v in attributes.items()}

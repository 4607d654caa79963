"""What is told beside events: plain values, that say in their names what happened."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any, get_args

import pytest

from trio_extreme.errors import ConnectionLost
from trio_extreme.notices import (
    AheadOfServer,
    CaughtUp,
    Change,
    Checkpoint,
    Closed,
    Connected,
    FellBehind,
    Lost,
    Notice,
    Reconnected,
    Reconnecting,
    Redirected,
    StreamMissing,
)
from trio_extreme.values import Position

LOST = ConnectionLost("gone")

NOTICES: list[tuple[type[Any], dict[str, Any]]] = [
    (CaughtUp, {}),
    (FellBehind, {}),
    (Reconnected, {"gap_possible": True}),
    (StreamMissing, {"stream": "s"}),
    (AheadOfServer, {"ours": 5, "servers_last": None}),
    (AheadOfServer, {"ours": Position(5, 5), "servers_last": Position(3, 3)}),
    (Checkpoint, {"position": Position(5, 0, inclusive=True)}),
]
CHANGES: list[tuple[type[Any], dict[str, Any]]] = [
    (Connected, {"host": "h", "port": 1113}),
    (Lost, {"reason": LOST}),
    (Reconnecting, {"attempt": 1, "delay": 0.5, "reason": LOST}),
    (Redirected, {"endpoint": ("h", 1113)}),
    (Closed, {"reason": LOST}),
]
each = pytest.mark.parametrize(("kind", "fields"), NOTICES + CHANGES)


@each
def test_equal_by_value(kind: type[Any], fields: dict[str, Any]) -> None:
    notice = kind(**fields)
    assert notice == kind(**fields)
    assert hash(notice) == hash(kind(**fields))
    assert {name: getattr(notice, name) for name in fields} == fields


@each
def test_frozen(kind: type[Any], fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        with pytest.raises(FrozenInstanceError):
            setattr(kind(**fields), name, value)


@each
def test_what_is_printed_says_it(kind: type[Any], fields: dict[str, Any]) -> None:
    text = repr(kind(**fields))
    assert text.startswith(f"{kind.__name__}(")
    assert all(f"{name}={value!r}" in text for name, value in fields.items())


def test_others_are_others() -> None:
    assert Reconnected(gap_possible=True) != Reconnected(gap_possible=False)
    assert StreamMissing("s") != StreamMissing("t")
    assert len({CaughtUp(), FellBehind(), CaughtUp()}) == 2


def test_they_can_be_matched() -> None:
    """How a program tells them from events, and takes them apart."""
    match AheadOfServer(5, None):
        case AheadOfServer(ours, servers_last):
            assert (ours, servers_last) == (5, None)


def test_each_is_a_notice_or_a_change() -> None:
    """So that `isinstance(item, Notice)` tells."""
    assert set(get_args(Notice)) == {kind for kind, _ in NOTICES}
    assert set(get_args(Change)) == {kind for kind, _ in CHANGES}
    assert isinstance(CaughtUp(), Notice)
    assert not isinstance("event", Notice)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from tests.embedded.talk import (
    ADMIN,
    Desk,
    append,
    delete,
    link,
    new_event,
    new_events,
    pack,
    read_event,
    read_log,
    read_stream,
    subscribe,
)
from trio_extreme.embedded.encoding import Form, encode
from trio_extreme.embedded.versions import VERSIONS
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

FORWARD, LOG_FORWARD = Command.READ_STREAM_EVENTS_FORWARD, Command.READ_ALL_EVENTS_FORWARD
NUMBERS = st.sampled_from((-(2**31), -1, 0, 1, 2**63 - 1))
PAGES = st.builds(
    schema.ReadStreamEventsCompleted,
    result=st.none() | st.sampled_from((0, 1)),
    next_event_number=st.none() | NUMBERS,
    is_end_of_stream=st.none() | st.booleans(),
    error=st.none() | st.sampled_from(("", "an error")),
    events=st.lists(
        st.builds(
            schema.ResolvedIndexedEvent,
            event=st.none()
            | st.builds(
                schema.EventRecord,
                event_number=st.none() | NUMBERS,
                data=st.none() | st.binary(max_size=2),
                created=st.none() | NUMBERS,
            ),
        ),
        max_size=2,
    ),
)


def scalars(message: Message) -> Iterator[tuple[str, Any]]:
    """What is on the wire of it, messages inside included: the name and value of each field that holds no message."""
    for field, value in message.ListFields():
        if field.message_type is None:
            yield field.name, value
        else:
            for inner in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from scalars(inner)


def values(message: Message) -> list[Any]:
    """All that it says, whether it is on the wire or its type's zero."""
    said: list[Any] = []
    for field in message.DESCRIPTOR.fields:
        value: Any = getattr(message, field.name)
        if field.message_type is None:
            said.append(value)
        elif hasattr(value, "DESCRIPTOR"):
            said += [message.HasField(field.name), *values(value)]
        else:
            said += [values(inner) for inner in value]
    return said


@given(page=PAGES)
def test_without_zeros_the_same_is_said_in_fewer_bytes(page: schema.ReadStreamEventsCompleted) -> None:
    full = encode(page, Form())
    assert full == page.SerializePartialToString()
    thin = encode(page, Form(zeros=False))
    decoded = schema.ReadStreamEventsCompleted.FromString(thin)
    assert values(decoded) == values(schema.ReadStreamEventsCompleted.FromString(full))
    assert all(value for _, value in scalars(decoded))
    assert decoded.SerializePartialToString() == thin


EMPTY, LINKS = new_event(data=b"", is_json=False), [link("0@people"), link("0@nobody")]


def everything(version: str) -> list[Message]:
    """One of each reply, full of zeros."""
    desk = Desk(version)
    reader = desk.new_caller()
    reader.client.speaks = desk.caller.client.speaks = 1
    reader.tell_as(ADMIN, Command.SUBSCRIBE_TO_STREAM, subscribe("", links=True))
    requests: list[tuple[Command, Message]] = [
        (Command.WRITE_EVENTS, append("people", [EMPTY])),
        (Command.WRITE_EVENTS, append("people", [EMPTY])),
        (Command.WRITE_EVENTS, append("people", new_events(1), expected=7)),
        (Command.WRITE_EVENTS, append("links", LINKS)),
        (Command.READ_EVENT, read_event("people", 0)),
        (Command.READ_EVENT, read_event("links", 1, links=True)),
        (Command.READ_EVENT, read_event("$$people", 0)),
        (FORWARD, read_stream("people")),
        (FORWARD, read_stream("nobody")),
        (FORWARD, read_stream("links", 0, 1, links=True)),
        (FORWARD, read_stream("links", 1, 1, links=True)),
        (Command.READ_STREAM_EVENTS_BACKWARD, read_stream("people")),
        (LOG_FORWARD, read_log(links=True)),
        (Command.READ_ALL_EVENTS_BACKWARD, read_log((-1, -1))),
        (LOG_FORWARD, read_log((-5, -5))),
        (Command.DELETE_STREAM, delete("people", 7)),
        (Command.DELETE_STREAM, delete("people", 0, hard=True)),
        (Command.SUBSCRIBE_TO_STREAM, subscribe("nobody")),
    ]
    replies = [desk.ask(command, message) for command, message in requests]
    desk.service.set_ready(ready=False)
    replies.append(desk.ask(Command.READ_EVENT, read_event("people", 0)))
    reader.tell(pack(Command.UNSUBSCRIBE_FROM_STREAM, b"", ADMIN, reader.replies[0].correlation))
    return [*replies, *(pushed.message for pushed in reader.replies)]


@pytest.mark.parametrize("version", VERSIONS)
def test_no_reply_has_a_zero_where_none_is_to_be(version: str) -> None:
    replies = everything(version)
    assert {type(reply).__name__ for reply in replies} >= {"StreamEventAppeared", "NotHandled", "SubscriptionDropped"}
    zeros = {name for reply in replies for name, value in scalars(reply) if not value}
    named = {"result", "event_number", "data", "metadata", "data_content_type", "is_end_of_stream", "commit_position"}
    assert zeros == set() if VERSIONS[version].omits_zeros else zeros >= named


def test_what_is_said_does_not_depend_on_it() -> None:
    newer = [values(reply) for reply in everything("22.10")]
    older = [values(reply) for reply in everything("20.10")]
    assert len(newer) == len(older)
    different = [place for place, (one, other) in enumerate(zip(newer, older, strict=True)) if one != other]
    # The delete that is done, for the newer one tells its number, and its event, whose id the server makes.
    assert different == [16, 23]

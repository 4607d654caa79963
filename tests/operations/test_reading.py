"""Reads: what is sent, and each result of the answer."""

from __future__ import annotations

import pytest

from trio_extreme.errors import (
    AccessDenied,
    EventNotFound,
    ProtocolError,
    ServerError,
    StreamDeleted,
    StreamNotFound,
    TrioExtremeError,
)
from trio_extreme.events import Event, LogEvent
from trio_extreme.operations.base import Resend
from trio_extreme.operations.reading import LAST, ReadAll, ReadEvent, ReadStream
from trio_extreme.values import Position
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

RECORD = schema.EventRecord(event_stream_id="s", event_number=7, event_id=b"i" * 16, event_type="t")
READ_EVENT = ReadEvent("s", 7, resolve_links=True, require_master=False)
FORWARD = ReadStream("s", 3, 50, backwards=False, resolve_links=True, require_master=False)
BACKWARD = ReadStream("s", LAST, 50, backwards=True, resolve_links=False, require_master=True)
ALL_FORWARD = ReadAll(Position(10, 9), 50, backwards=False, resolve_links=False, require_master=True)
ALL_BACKWARD = ReadAll(Position(-1, -1), 50, backwards=True, resolve_links=True, require_master=False)

Result = schema.ReadEventCompleted.ReadEventResult
StreamResult = schema.ReadStreamEventsCompleted.ReadStreamResult
AllResult = schema.ReadAllEventsCompleted.ReadAllResult


def test_what_is_sent() -> None:
    """All that servers require, False and the empty name included."""
    assert schema.ReadEvent.FromString(READ_EVENT.payload()) == schema.ReadEvent(
        event_stream_id="s", event_number=7, resolve_link_tos=True, require_master=False
    )
    assert schema.ReadStreamEvents.FromString(FORWARD.payload()) == schema.ReadStreamEvents(
        event_stream_id="s", from_event_number=3, max_count=50, resolve_link_tos=True, require_master=False
    )
    assert schema.ReadStreamEvents.FromString(BACKWARD.payload()) == schema.ReadStreamEvents(
        event_stream_id="s", from_event_number=-1, max_count=50, resolve_link_tos=False, require_master=True
    )
    assert schema.ReadAllEvents.FromString(ALL_FORWARD.payload()) == schema.ReadAllEvents(
        commit_position=10, prepare_position=9, max_count=50, resolve_link_tos=False, require_master=True
    )
    assert schema.ReadAllEvents.FromString(ALL_BACKWARD.payload()) == schema.ReadAllEvents(
        commit_position=-1, prepare_position=-1, max_count=50, resolve_link_tos=True, require_master=False
    )


def test_commands() -> None:
    assert [(int(each.command), int(each.answer)) for each in (READ_EVENT, FORWARD, BACKWARD)] == [
        (0xB0, 0xB1),
        (0xB2, 0xB3),
        (0xB4, 0xB5),
    ]
    assert [(int(each.command), int(each.answer)) for each in (ALL_FORWARD, ALL_BACKWARD)] == [
        (0xB6, 0xB7),
        (0xB8, 0xB9),
    ]
    for each in (READ_EVENT, FORWARD, BACKWARD, ALL_FORWARD, ALL_BACKWARD):
        assert each.resend is Resend.AGAIN


def test_one_event() -> None:
    done = schema.ReadEventCompleted(result=Result.Success, event=schema.ResolvedIndexedEvent(event=RECORD))
    event = READ_EVENT.decide(Command.READ_EVENT_COMPLETED, done.SerializeToString())
    assert type(event) is Event
    assert event.number == 7


def test_one_event_that_is_a_link_to_nothing() -> None:
    done = schema.ReadEventCompleted(result=Result.Success, event=schema.ResolvedIndexedEvent(link=RECORD))
    event = READ_EVENT.read(done.SerializeToString())
    assert not event.resolved
    assert event.number == 7


@pytest.mark.parametrize("event", [None, schema.ResolvedIndexedEvent()])
def test_success_without_an_event(event: schema.ResolvedIndexedEvent | None) -> None:
    """How servers say that a stream has no metadata: pitfall 33."""
    done = schema.ReadEventCompleted(result=Result.Success, event=event)
    with pytest.raises(EventNotFound):
        READ_EVENT.read(done.SerializeToString())


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [
        (Result.NotFound, EventNotFound, "stream 's' has no event 7"),
        (Result.NoStream, StreamNotFound, "stream 's' does not exist"),
        (Result.StreamDeleted, StreamDeleted, "stream 's' was deleted"),
        (Result.AccessDenied, AccessDenied, "may not read stream 's'"),
        (Result.Error, ServerError, "answered with an error: why"),
        (77, ProtocolError, "result 77"),
    ],
)
def test_results_of_one_event(result: int, error: type[TrioExtremeError], text: str) -> None:
    done = schema.ReadEventCompleted(result=result, error="why")
    with pytest.raises(error, match=text) as caught:
        READ_EVENT.read(done.SerializeToString())
    assert type(caught.value) is error


def test_a_page_of_a_stream() -> None:
    done = schema.ReadStreamEventsCompleted(
        events=[schema.ResolvedIndexedEvent(event=RECORD)] * 2,
        result=StreamResult.Success,
        next_event_number=9,
        last_event_number=20,
        is_end_of_stream=False,
    )
    page = FORWARD.decide(Command.READ_STREAM_EVENTS_FORWARD_COMPLETED, done.SerializeToString())
    assert [type(event) for event in page.events] == [Event, Event]
    assert page[1:] == (9, 20, False)


def test_a_page_of_zeros_is_what_servers_from_22_6_leave_out() -> None:
    assert FORWARD.read(b"") == ([], 0, 0, False)


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [
        (StreamResult.NoStream, StreamNotFound, "stream 's' does not exist"),
        (StreamResult.StreamDeleted, StreamDeleted, "stream 's' was deleted"),
        (StreamResult.AccessDenied, AccessDenied, "may not read stream 's'"),
        (StreamResult.Error, ServerError, "answered with an error: why"),
        (StreamResult.NotModified, ProtocolError, "result 3"),
        (77, ProtocolError, "result 77"),
    ],
)
def test_results_of_a_stream(result: int, error: type[TrioExtremeError], text: str) -> None:
    done = schema.ReadStreamEventsCompleted(result=result, error="why")
    with pytest.raises(error, match=text) as caught:
        BACKWARD.decide(Command.READ_STREAM_EVENTS_BACKWARD_COMPLETED, done.SerializeToString())
    assert type(caught.value) is error


def test_a_page_of_the_log() -> None:
    done = schema.ReadAllEventsCompleted(
        commit_position=10,
        prepare_position=9,
        events=[schema.ResolvedEvent(event=RECORD, commit_position=12, prepare_position=11)],
        next_commit_position=20,
        next_prepare_position=0,
    )
    page = ALL_FORWARD.decide(Command.READ_ALL_EVENTS_FORWARD_COMPLETED, done.SerializeToString())
    assert [type(event) for event in page.events] == [LogEvent]
    assert page.events[0].position == Position(12, 11)
    # (x, 0) stays what it is: pitfall 31.
    assert page[1:] == (Position(10, 9), Position(20, 0), False)


def test_an_empty_page_is_the_end_of_the_log() -> None:
    done = schema.ReadAllEventsCompleted(next_commit_position=20, next_prepare_position=20)
    assert ALL_BACKWARD.read(done.SerializeToString()).is_end


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [
        (AllResult.AccessDenied, AccessDenied, "may not read the log"),
        (AllResult.Error, ServerError, "answered with an error: why"),
        (AllResult.NotModified, ProtocolError, "result 1"),
        (77, ProtocolError, "result 77"),
    ],
)
def test_results_of_the_log(result: int, error: type[TrioExtremeError], text: str) -> None:
    done = schema.ReadAllEventsCompleted(result=result, error="why")
    with pytest.raises(error, match=text) as caught:
        ALL_FORWARD.read(done.SerializeToString())
    assert type(caught.value) is error


def test_the_other_direction_is_another_answer() -> None:
    with pytest.raises(ProtocolError):
        FORWARD.decide(Command.READ_STREAM_EVENTS_BACKWARD_COMPLETED, b"")

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
ALL_DOWN = ReadAll(Position(10, 9), 50, backwards=True, resolve_links=False, require_master=False)
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
    assert (page.next, page.last_number, page.is_end) == (9, 20, False)
    assert page.size == len(done.SerializeToString())


def test_a_page_of_zeros_is_what_servers_from_22_6_leave_out() -> None:
    page = ReadStream("s", 1, 1, backwards=True, resolve_links=False, require_master=False).read(b"")
    assert tuple(page) == ([], 0, False, 0, 0)


@pytest.mark.parametrize(
    ("page", "following", "progress"),
    [
        (FORWARD, 4, True),
        (FORWARD, 3, False),
        (FORWARD, 2, False),
        (FORWARD, -1, False),
        (BACKWARD, 5, True),
        (BACKWARD, 0, True),
        (BACKWARD, -1, False),
        (ReadStream("s", 3, 50, backwards=True, resolve_links=False, require_master=False), 2, True),
        (ReadStream("s", 3, 50, backwards=True, resolve_links=False, require_master=False), 3, False),
    ],
)
def test_a_page_that_makes_no_progress(page: ReadStream, following: int, progress: bool) -> None:
    """A peer could keep a reader busy for ever with it."""
    done = schema.ReadStreamEventsCompleted(next_event_number=following, is_end_of_stream=False).SerializeToString()
    if progress:
        assert page.read(done).next == following
    else:
        with pytest.raises(ProtocolError, match=f"goes on at {following}, which is no progress"):
            page.read(done)
    # At the end nobody goes on.
    done = schema.ReadStreamEventsCompleted(next_event_number=following, is_end_of_stream=True).SerializeToString()
    assert page.read(done).is_end


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


@pytest.mark.parametrize("last_number", [-1, 0, 7])
def test_a_stream_that_is_missing_says_where_numbering_goes_on(last_number: int) -> None:
    done = schema.ReadStreamEventsCompleted(result=StreamResult.NoStream, last_event_number=last_number)
    with pytest.raises(StreamNotFound) as caught:
        FORWARD.read(done.SerializeToString())
    assert caught.value.last_number == last_number


def test_who_asks_for_one_event_is_not_told() -> None:
    done = schema.ReadEventCompleted(result=Result.NoStream)
    with pytest.raises(StreamNotFound) as caught:
        READ_EVENT.read(done.SerializeToString())
    assert caught.value.last_number is None


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
    assert (page.at, page.next, page.is_end) == (Position(10, 9), Position(20, 0), False)
    assert page.size == len(done.SerializeToString())


@pytest.mark.parametrize(
    ("page", "following", "progress"),
    [
        (ALL_FORWARD, Position(10, 10), True),
        (ALL_FORWARD, Position(10, 9), False),
        (ALL_FORWARD, Position(9, 20), False),
        (ALL_DOWN, Position(10, 8), True),
        (ALL_DOWN, Position(10, 9), False),
        (ALL_DOWN, Position(11, 0), False),
        # From the end there is nothing to compare with.
        (ALL_BACKWARD, Position(10, 8), True),
        (ALL_BACKWARD, Position(10, 9), True),
    ],
)
@pytest.mark.parametrize("at", [Position(10, 9), Position(0, 0), Position(99, 99)])
def test_a_page_of_the_log_that_makes_no_progress(
    page: ReadAll, at: Position, following: Position, *, progress: bool
) -> None:
    """Against what was asked: where the peer says that it began could move along with it."""
    done = schema.ReadAllEventsCompleted(
        commit_position=at.commit,
        prepare_position=at.prepare,
        events=[schema.ResolvedEvent(event=RECORD)],
        next_commit_position=following.commit,
        next_prepare_position=following.prepare,
    ).SerializeToString()
    if progress:
        assert page.read(done).next == following
    else:
        with pytest.raises(ProtocolError, match="which is no progress"):
            page.read(done)


@pytest.mark.parametrize("count", [50, 51, 100_000])
@pytest.mark.parametrize("page", [FORWARD, BACKWARD])
def test_a_page_of_a_stream_with_more_than_was_asked_for(page: ReadStream, count: int) -> None:
    """Two bytes each are enough: from one frame would come millions of events."""
    done = schema.ReadStreamEventsCompleted(next_event_number=0, is_end_of_stream=True).SerializeToString()
    check_size(page, b"\x0a\x00" * count + done, count)


@pytest.mark.parametrize("count", [50, 51, 100_000])
@pytest.mark.parametrize("page", [ALL_FORWARD, ALL_BACKWARD])
def test_a_page_of_the_log_with_more_than_was_asked_for(page: ReadAll, count: int) -> None:
    done = schema.ReadAllEventsCompleted(next_commit_position=20, next_prepare_position=20).SerializeToString()
    check_size(page, b"\x1a\x00" * count + done, count)


def check_size(page: ReadStream | ReadAll, payload: bytes, count: int) -> None:
    if count <= 50:
        assert len(page.read(payload).events) == count
    else:
        with pytest.raises(ProtocolError, match=f"a page of {count:,} events to who asked for 50"):
            page.read(payload)


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

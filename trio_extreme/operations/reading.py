"""Reads: one event, a page of a stream, a page of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.errors import (
    AccessDenied,
    EventNotFound,
    ProtocolError,
    StreamDeleted,
    StreamNotFound,
    TrioExtremeError,
)
from trio_extreme.events import Event, Events, LogEvent
from trio_extreme.operations.base import Operation, right_denied, server_error, unknown_result
from trio_extreme.values import ALL, Position
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

_Event = schema.ReadEventCompleted.ReadEventResult
_Stream = schema.ReadStreamEventsCompleted.ReadStreamResult
_All = schema.ReadAllEventsCompleted.ReadAllResult
_STREAM_SUCCESS = _Stream.Success
_ALL_SUCCESS = _All.Success

LAST = -1
"""On the wire: the last event, the end of a stream, the end of the log."""


class StreamPage(NamedTuple):
    """One page of a stream; `size` in bytes."""

    events: Events[Event]
    next: int
    is_end: bool
    size: int
    last_number: int


class LogPage(NamedTuple):
    """One page of the log; `size` in bytes. `at` is the place asked for, as the server understood it.

    With a filter, `passed` is how many events were looked through that are not on it, as far as that is known, and
    `sifted` how many of those came with it.
    """

    events: Events[LogEvent]
    next: Position
    is_end: bool
    size: int
    at: Position
    passed: int = 0
    sifted: int = 0


class ReadEvent(Operation[Event]):
    """One event by its number; `LAST` for the last."""

    command = Command.READ_EVENT
    answer = Command.READ_EVENT_COMPLETED

    def __init__(self, stream: str, number: int, *, resolve_links: bool, require_master: bool) -> None:
        self._stream = stream
        self._number = number
        self._resolve_links = resolve_links
        self._require_master = require_master

    def payload(self) -> bytes:
        """A ReadEvent."""
        return schema.ReadEvent(
            event_stream_id=self._stream,
            event_number=self._number,
            resolve_link_tos=self._resolve_links,
            require_master=self._require_master,
        ).SerializeToString()

    def read(self, payload: bytes) -> Event:
        """The event."""
        done = parse(schema.ReadEventCompleted, payload)
        if done.result != _Event.Success:
            self._raise(done)
        if not done.event.event.event_type and not done.event.link.event_type:
            # How servers say that a stream has no metadata: a success without an event (docs/protocol.md, 3.4).
            raise EventNotFound(self._stream, self._number)
        return Event(done.event)

    def _raise(self, done: schema.ReadEventCompleted) -> None:
        if done.result == _Event.NotFound:
            raise EventNotFound(self._stream, self._number)
        if done.result == _Event.NoStream:
            raise StreamNotFound(self._stream)
        if done.result == _Event.StreamDeleted:
            raise StreamDeleted(self._stream)
        if done.result == _Event.AccessDenied:
            raise _read_denied(self._stream, resolve_links=self._resolve_links)
        if done.result == _Event.Error:
            raise server_error(done.error)
        raise unknown_result("a read was answered", done.result)


class ReadStream(Operation[StreamPage]):
    """A page of a stream."""

    def __init__(
        self, stream: str, start: int, count: int, *, backwards: bool, resolve_links: bool, require_master: bool
    ) -> None:
        self.command = Command.READ_STREAM_EVENTS_BACKWARD if backwards else Command.READ_STREAM_EVENTS_FORWARD
        self.answer = self.command + 1
        self._stream = stream
        self._start = start
        self._count = count
        self._backwards = backwards
        self._resolve_links = resolve_links
        self._require_master = require_master

    def payload(self) -> bytes:
        """A ReadStreamEvents."""
        return schema.ReadStreamEvents(
            event_stream_id=self._stream,
            from_event_number=self._start,
            max_count=self._count,
            resolve_link_tos=self._resolve_links,
            require_master=self._require_master,
        ).SerializeToString()

    def read(self, payload: bytes) -> StreamPage:
        """The page."""
        done = parse(schema.ReadStreamEventsCompleted, payload)
        if done.result != _STREAM_SUCCESS:
            self._raise(done)
        page = StreamPage(
            Events(Event, done.events),
            done.next_event_number,
            done.is_end_of_stream,
            len(payload),
            done.last_event_number,
        )
        if len(page.events) > self._count:
            raise too_many(len(page.events), self._count)
        if not page.is_end and not self._goes_on(page.next):
            raise stuck(page.next)
        return page

    def _goes_on(self, next_number: int) -> bool:
        if self._backwards:
            return next_number >= 0 and (next_number < self._start or self._start == LAST)
        return next_number > self._start

    def _raise(self, done: schema.ReadStreamEventsCompleted) -> None:
        if done.result == _Stream.NoStream:
            raise StreamNotFound(self._stream, done.last_event_number)
        if done.result == _Stream.StreamDeleted:
            raise StreamDeleted(self._stream)
        if done.result == _Stream.AccessDenied:
            raise _read_denied(self._stream, resolve_links=self._resolve_links)
        if done.result == _Stream.Error:
            raise server_error(done.error)
        raise unknown_result("a read was answered", done.result)


class ReadAll(Operation[LogPage]):
    """A page of the log."""

    def __init__(
        self, start: Position, count: int, *, backwards: bool, resolve_links: bool, require_master: bool
    ) -> None:
        self.command = Command.READ_ALL_EVENTS_BACKWARD if backwards else Command.READ_ALL_EVENTS_FORWARD
        self.answer = self.command + 1
        self._start = start
        self._count = count
        self._backwards = backwards
        self._resolve_links = resolve_links
        self._require_master = require_master

    def payload(self) -> bytes:
        """A ReadAllEvents."""
        return schema.ReadAllEvents(
            commit_position=self._start.commit,
            prepare_position=self._start.prepare,
            max_count=self._count,
            resolve_link_tos=self._resolve_links,
            require_master=self._require_master,
        ).SerializeToString()

    def read(self, payload: bytes) -> LogPage:
        """The page. The wire has no end flag here: an empty page is the end (docs/protocol.md, pitfall 30)."""
        done = parse(schema.ReadAllEventsCompleted, payload)
        if done.result != _ALL_SUCCESS:
            raise log_refusal(done.result, done.error, resolve_links=self._resolve_links)
        at = Position(done.commit_position, done.prepare_position)
        following = Position(done.next_commit_position, done.next_prepare_position)
        if len(done.events) > self._count:
            raise too_many(len(done.events), self._count)
        if done.events and not self._goes_on(following):
            raise stuck(following)
        return self._page(done.events, following, len(payload), at)

    def _page(self, messages: Sequence[schema.ResolvedEvent], following: Position, size: int, at: Position) -> LogPage:
        return LogPage(Events(LogEvent, messages), following, not messages, size, at)

    def _goes_on(self, following: Position) -> bool:
        if self._backwards:
            return self._start.commit == LAST or following < self._start
        return following > self._start


def log_refusal(result: int, text: str, *, resolve_links: bool) -> TrioExtremeError:
    """The error for a page of the log that is none; a filtered one has the same results."""
    if result == _All.AccessDenied:
        return _read_denied(ALL, resolve_links=resolve_links)
    if result == _All.Error:
        return server_error(text)
    return unknown_result("a read was answered", result)


def _read_denied(stream: str, *, resolve_links: bool) -> AccessDenied:
    """The error for a read that is refused: of the stream, or by servers up to 5.0 of what a link in it leads to."""
    return right_denied(stream, "$r", ", or what a link in it leads to" if resolve_links else "")


def too_many(events: int, count: int) -> ProtocolError:
    """The error for a page with more than was asked for, which no server sends."""
    return ProtocolError(f"the peer sent a page of {events:,} events to who asked for {count:,}")


def stuck(following: object) -> ProtocolError:
    """The error for a page that says there is more, and does not say where: reading on would never end."""
    return ProtocolError(f"the peer sent a page that goes on at {following}, which is no progress")

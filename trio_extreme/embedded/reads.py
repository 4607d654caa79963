"""Reading events, streams and the log, as requests (docs/protocol.md, 3.4 to 3.6). Pure.

Pages are joins of what was serialized when it was written; only what stands beside the events is encoded here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_extreme.embedded.acl import ALL_STREAM, is_allowed
from trio_extreme.embedded.clients import require
from trio_extreme.embedded.log import LogPage, LogReadError
from trio_extreme.embedded.metadata import Right
from trio_extreme.embedded.reading import (
    EventResult,
    StreamPage,
    StreamResult,
    link_target,
    means_no_metadata,
    read_backward,
    read_event,
    read_forward,
    resolve,
)
from trio_extreme.embedded.records import Place, Record, Resolved, encode_field, encode_indexed, encode_resolved
from trio_extreme.values import MAX_READ
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.embedded.acl import Identity
    from trio_extreme.embedded.clients import Request
    from trio_extreme.embedded.store import Store

LogResult = schema.ReadAllEventsCompleted.ReadAllResult
_END = Place(-1, -1)
_TOO_BIG = f"Read size too big, should be less than {MAX_READ} items"
_FORWARD = (Command.READ_STREAM_EVENTS_FORWARD, Command.READ_ALL_EVENTS_FORWARD)
_REPLIES = {
    Command.READ_STREAM_EVENTS_FORWARD: Command.READ_STREAM_EVENTS_FORWARD_COMPLETED,
    Command.READ_STREAM_EVENTS_BACKWARD: Command.READ_STREAM_EVENTS_BACKWARD_COMPLETED,
    Command.READ_ALL_EVENTS_FORWARD: Command.READ_ALL_EVENTS_FORWARD_COMPLETED,
    Command.READ_ALL_EVENTS_BACKWARD: Command.READ_ALL_EVENTS_BACKWARD_COMPLETED,
}


class Reads:
    """The handlers of requests that read."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def event(self, request: Request) -> None:
        """ReadEvent. The wrapper of the event is there in every reply, empty where there is none."""
        message: schema.ReadEvent = request.message
        require(message.event_stream_id != "", "the stream's name is empty")
        require(message.event_number >= -1, f"event number {message.event_number}")
        result, body = self._event(request.identity, message)
        head = schema.ReadEventCompleted(result=result).SerializePartialToString()
        payload = head + encode_field(2, body)
        request.client.reply(Command.READ_EVENT_COMPLETED, request.correlation, payload)

    def _event(
        self, identity: Identity | None, message: schema.ReadEvent
    ) -> tuple[schema.ReadEventCompleted.ReadEventResult, bytes]:
        stream = message.event_stream_id
        if not is_allowed(self._store, identity, Right.READ, stream):
            return EventResult.AccessDenied, b""
        found = read_event(self._store, stream, message.event_number)
        if not isinstance(found, Record):
            if found is not EventResult.StreamDeleted and means_no_metadata(self._store, stream):
                return EventResult.Success, b""
            return found, b""
        resolved = self._resolve(identity, [found], links=message.resolve_link_tos)
        if resolved is None:
            return EventResult.AccessDenied, b""
        return EventResult.Success, encode_indexed(resolved[0])

    def stream(self, request: Request) -> None:
        """ReadStreamEvents, forwards and backwards."""
        message: schema.ReadStreamEvents = request.message
        require(message.event_stream_id != "", "the stream's name is empty")
        require(message.from_event_number >= -1, f"from event number {message.from_event_number}")
        forward = request.command in _FORWARD
        error = _stream_error(message, forward=forward)
        page = StreamPage(StreamResult.Error) if error else self._stream_page(request, forward=forward)
        resolved = self._resolve(request.identity, page.records, links=message.resolve_link_tos)
        if resolved is None:
            page, resolved = StreamPage(StreamResult.AccessDenied), []
        tail = schema.ReadStreamEventsCompleted(
            result=page.result,
            next_event_number=page.next,
            last_event_number=request.client.number(page.last),
            is_end_of_stream=page.is_end,
            last_commit_position=self._store.log.last,
            error=error,
        )
        parts = [encode_field(1, encode_indexed(one)) for one in resolved]
        payload = b"".join(parts) + tail.SerializePartialToString()
        request.client.reply(_REPLIES[request.command], request.correlation, payload)

    def _stream_page(self, request: Request, *, forward: bool) -> StreamPage:
        message: schema.ReadStreamEvents = request.message
        if not is_allowed(self._store, request.identity, Right.READ, message.event_stream_id):
            return StreamPage(StreamResult.AccessDenied)
        read = read_forward if forward else read_backward
        return read(self._store, message.event_stream_id, message.from_event_number, message.max_count)

    def log(self, request: Request) -> None:
        """ReadAllEvents, forwards and backwards. A result of Success is left out, as servers do."""
        message: schema.ReadAllEvents = request.message
        start = Place(message.commit_position, message.prepare_position)
        if start == _END:
            start = Place(self._store.log.end, self._store.log.end)
        reply = schema.ReadAllEventsCompleted(next_commit_position=-1, next_prepare_position=-1)
        parts: Sequence[bytes] = ()
        try:
            resolved, following = self._log_page(request, start)
        except LogReadError as error:
            reply.result, reply.error = LogResult.Error, str(error)
        except _AccessDenied:
            reply.result = LogResult.AccessDenied
        else:
            reply.next_commit_position, reply.next_prepare_position = following
            parts = [encode_field(3, encode_resolved(one, wide=request.client.wide)) for one in resolved]
        reply.commit_position, reply.prepare_position = start
        payload = b"".join(parts) + reply.SerializePartialToString()
        request.client.reply(_REPLIES[request.command], request.correlation, payload)

    def _log_page(self, request: Request, start: Place) -> tuple[Sequence[Resolved], Place]:
        message: schema.ReadAllEvents = request.message
        if message.max_count > MAX_READ:
            raise LogReadError(_TOO_BIG)
        if min(start) < 0:
            msg = "Invalid position."
            raise LogReadError(msg)
        if not is_allowed(self._store, request.identity, Right.READ, ALL_STREAM):
            raise _AccessDenied
        log = self._store.log
        page: LogPage = (log.forward if request.command in _FORWARD else log.backward)(start, message.max_count)
        resolved = self._resolve(request.identity, page.records, links=message.resolve_link_tos)
        if resolved is None:
            raise _AccessDenied
        return resolved, page.next

    def _resolve(
        self, identity: Identity | None, records: Sequence[Record], *, links: bool
    ) -> Sequence[Resolved] | None:
        """What the records lead to; None where one of them leads to a stream that this identity may not read.

        Servers up to 5.0 refuse the whole page then.
        """
        if not links:
            return [Resolved(record) for record in records]
        for record in records:
            target = link_target(record)
            if target is not None and not is_allowed(self._store, identity, Right.READ, target[0]):
                return None
        return [resolve(self._store, record) for record in records]


class _AccessDenied(Exception):
    pass


def _stream_error(message: schema.ReadStreamEvents, *, forward: bool) -> str:
    """What is wrong with a page's bounds, where it is answered by a result and not by BadRequest."""
    if message.max_count > MAX_READ:
        return _TOO_BIG
    if message.max_count <= 0:
        return "maxCount should be positive."
    if forward and message.from_event_number < 0:
        return "fromEventNumber should be non-negative."
    return ""

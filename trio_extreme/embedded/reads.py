"""Reading events, streams and the log, as requests (docs/protocol.md, 3.4 to 3.6). Pure.

Pages are joins of what was serialized when it was written; only what stands beside the events is encoded here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_extreme.embedded.acl import ALL_STREAM, is_allowed
from trio_extreme.embedded.clients import require
from trio_extreme.embedded.encoding import encode
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

    from google.protobuf.message import Message

    from trio_extreme.embedded.clients import Request
    from trio_extreme.embedded.encoding import Form
    from trio_extreme.embedded.store import Store

LogResult = schema.ReadAllEventsCompleted.ReadAllResult
_END = _NOWHERE = Place(-1, -1)
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
        try:
            result, resolved = self._event(request)
        except _AccessDenied:
            result, resolved = EventResult.AccessDenied, None
        head = encode(schema.ReadEventCompleted(result=result), request.client.form)
        body = b"" if resolved is None else encode_indexed(resolved, _stream_form(request))
        payload = head + encode_field(2, body)
        request.client.reply(Command.READ_EVENT_COMPLETED, request.correlation, payload)

    def _event(self, request: Request) -> tuple[schema.ReadEventCompleted.ReadEventResult, Resolved | None]:
        message: schema.ReadEvent = request.message
        stream = message.event_stream_id
        self._require_access(request, stream)
        found = read_event(self._store, stream, message.event_number)
        if isinstance(found, Record):
            return EventResult.Success, self._resolve(request, [found])[0]
        if found is not EventResult.StreamDeleted and means_no_metadata(self._store, stream):
            return EventResult.Success, None
        return found, None

    def stream(self, request: Request) -> None:
        """ReadStreamEvents, forwards and backwards."""
        message: schema.ReadStreamEvents = request.message
        require(message.event_stream_id != "", "the stream's name is empty")
        require(message.from_event_number >= -1, f"from event number {message.from_event_number}")
        error = _stream_error(message, forward=request.command in _FORWARD)
        resolved: Sequence[Resolved] = ()
        try:
            page = self._stream_page(request, error)
            resolved = self._resolve(request, page.records)
        except _AccessDenied:
            page, error = StreamPage(StreamResult.AccessDenied), ""
        knows_nothing = page.result is StreamResult.AccessDenied and self._store.version.checks_access_first
        tail = schema.ReadStreamEventsCompleted(
            result=page.result,
            next_event_number=page.next,
            last_event_number=0 if knows_nothing else request.client.number(page.last),
            is_end_of_stream=page.is_end,
            last_commit_position=0 if knows_nothing else self._store.log.last,
            error=error,
        )
        form = _stream_form(request)
        _answer(request, [encode_field(1, encode_indexed(one, form)) for one in resolved], tail)

    def _stream_page(self, request: Request, error: str) -> StreamPage:
        message: schema.ReadStreamEvents = request.message
        if not error or self._store.version.checks_access_first:
            self._require_access(request, message.event_stream_id)
        if error:
            return StreamPage(StreamResult.Error)
        read = read_forward if request.command in _FORWARD else read_backward
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
            page = self._log_page(request, start)
            form = request.client.form
            parts = [encode_field(3, encode_resolved(one, form)) for one in self._resolve(request, page.records)]
        except LogReadError as error:
            reply.result, reply.error = LogResult.Error, str(error)
        except _AccessDenied:
            reply.result = LogResult.AccessDenied
            if self._store.version.checks_access_first:
                start = _NOWHERE
        else:
            reply.next_commit_position, reply.next_prepare_position = page.next
        reply.commit_position, reply.prepare_position = start
        _answer(request, parts, reply)

    def _log_page(self, request: Request, start: Place) -> LogPage:
        message: schema.ReadAllEvents = request.message
        error = _log_error(message, start)
        if not error or self._store.version.checks_access_first:
            self._require_access(request, ALL_STREAM)
        if error:
            raise LogReadError(error)
        log = self._store.log
        return (log.forward if request.command in _FORWARD else log.backward)(start, message.max_count)

    def _require_access(self, request: Request, stream: str) -> None:
        if not is_allowed(self._store, request.identity, Right.READ, stream):
            raise _AccessDenied

    def _resolve(self, request: Request, records: Sequence[Record]) -> Sequence[Resolved]:
        """What the records lead to.

        Raises `_AccessDenied` where one of them leads to a stream that may not be read: some servers refuse the whole
        page then, and others do not look.
        """
        if not request.message.resolve_link_tos:
            return [Resolved(record) for record in records]
        if self._store.version.checks_link_targets:
            for record in records:
                if target := link_target(record):
                    self._require_access(request, target[0])
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


def _log_error(message: schema.ReadAllEvents, start: Place) -> str:
    """The same for the log."""
    if message.max_count > MAX_READ:
        return _TOO_BIG
    return "Invalid position." if min(start) < 0 else ""


def _stream_form(request: Request) -> Form:
    """How the events of a stream are written: their numbers have 64 bits for every client (docs/protocol.md, 1.3)."""
    return request.client.form._replace(wide=True)


def _answer(request: Request, events: Sequence[bytes], rest: Message) -> None:
    payload = b"".join(events) + encode(rest, request.client.form)
    request.client.reply(_REPLIES[request.command], request.correlation, payload)

"""Reading events, streams and the log, as requests (docs/protocol.md, 3.4 to 3.7). Pure.

Pages are joins of what was serialized when it was written; only what stands beside the events is encoded here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_extreme.embedded.acl import ALL_STREAM, is_allowed
from trio_extreme.embedded.clients import require
from trio_extreme.embedded.encoding import encode
from trio_extreme.embedded.filters import Search, make_chooser, search_backward, search_forward
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
from trio_extreme.embedded.records import (
    LINK_TYPE,
    Place,
    Record,
    Resolved,
    encode_field,
    encode_indexed,
    encode_resolved,
    encode_stored,
)
from trio_extreme.values import MAX_READ
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from google.protobuf.message import Message

    from trio_extreme.embedded.clients import Request
    from trio_extreme.embedded.encoding import Form
    from trio_extreme.embedded.store import Store

    _LogReply: TypeAlias = schema.ReadAllEventsCompleted | schema.FilteredReadAllEventsCompleted

LogResult = schema.ReadAllEventsCompleted.ReadAllResult
_END = _NOWHERE = Place(-1, -1)
_TOO_BIG = f"Read size too big, should be less than {MAX_READ} items"
_FORWARD = (
    Command.READ_STREAM_EVENTS_FORWARD,
    Command.READ_ALL_EVENTS_FORWARD,
    Command.FILTERED_READ_ALL_EVENTS_FORWARD,
)
_REPLIES = {
    Command.READ_STREAM_EVENTS_FORWARD: Command.READ_STREAM_EVENTS_FORWARD_COMPLETED,
    Command.READ_STREAM_EVENTS_BACKWARD: Command.READ_STREAM_EVENTS_BACKWARD_COMPLETED,
    Command.READ_ALL_EVENTS_FORWARD: Command.READ_ALL_EVENTS_FORWARD_COMPLETED,
    Command.READ_ALL_EVENTS_BACKWARD: Command.READ_ALL_EVENTS_BACKWARD_COMPLETED,
    Command.FILTERED_READ_ALL_EVENTS_FORWARD: Command.FILTERED_READ_ALL_EVENTS_FORWARD_COMPLETED,
    Command.FILTERED_READ_ALL_EVENTS_BACKWARD: Command.FILTERED_READ_ALL_EVENTS_BACKWARD_COMPLETED,
}
_WITHOUT_FILTER = {
    Command.FILTERED_READ_ALL_EVENTS_FORWARD: Command.READ_ALL_EVENTS_FORWARD,
    Command.FILTERED_READ_ALL_EVENTS_BACKWARD: Command.READ_ALL_EVENTS_BACKWARD,
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
        events: Sequence[bytes] = ()
        try:
            page = self._stream_page(request, error)
            events = self._encode_page(request, page.records)
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
        _answer(request, events, tail, request.command)

    def _encode_page(self, request: Request, records: Sequence[Record]) -> Sequence[bytes]:
        """The events of a stream's page, in pieces. Raises `_AccessDenied` as `_resolve` does."""
        form = _stream_form(request)
        leads_somewhere = request.message.resolve_link_tos and LINK_TYPE in {record.type for record in records}
        if form.zeros and not leads_somewhere:
            return encode_stored(records)
        return [encode_field(1, encode_indexed(one, form)) for one in self._resolve(request, records)]

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
        reply = schema.ReadAllEventsCompleted(next_commit_position=-1, next_prepare_position=-1)
        self._answer_log(request, reply, self._log_page)

    def _log_page(self, request: Request, start: Place) -> LogPage:
        log = self._store.log
        return (log.forward if request.command in _FORWARD else log.backward)(start, request.message.max_count)

    def filtered_log(self, request: Request) -> None:
        """FilteredReadAllEvents, forwards and backwards."""
        message: schema.FilteredReadAllEvents = request.message
        window = message.max_search_window if message.HasField("max_search_window") else message.max_count
        if window <= 0 and self._store.version.ignores_empty_windows:
            window = message.max_count
        search = Search(
            make_chooser(message.filter),
            message.max_count,
            # No client can tell that a wider one ends here, and the node is not busy with one page for ever.
            min(window, MAX_READ),
            skips=self._store.version.skips_in_transactions,
        )
        reply = schema.FilteredReadAllEventsCompleted(
            next_commit_position=-1, next_prepare_position=-1, is_end_of_stream=False
        )

        def find(request: Request, start: Place) -> LogPage:
            look = search_forward if request.command in _FORWARD else search_backward
            page, reply.is_end_of_stream = look(self._store.log, start, search)
            return page

        self._answer_log(request, reply, find)

    def _answer_log(self, request: Request, reply: _LogReply, read: Callable[[Request, Place], LogPage]) -> None:
        """Answer with the page that begins where the request says, or with why there is none."""
        message: schema.ReadAllEvents | schema.FilteredReadAllEvents = request.message
        start = Place(message.commit_position, message.prepare_position)
        if start == _END:
            start = Place(self._store.log.end, self._store.log.end)
        parts: Sequence[bytes] = ()
        command = request.command
        try:
            self._check_log_request(request, start)
            page = read(request, start)
            form = request.client.form
            parts = [encode_field(3, encode_resolved(one, form)) for one in self._resolve(request, page.records)]
        except LogReadError as error:
            reply.result, reply.error = LogResult.Error, str(error)
        except _AccessDenied:
            # That of a filtered read comes as if it had no filter (docs/protocol.md, pitfall 34).
            command = _WITHOUT_FILTER.get(command, command)
            reply = schema.ReadAllEventsCompleted(next_commit_position=-1, next_prepare_position=-1)
            reply.result = LogResult.AccessDenied
            if self._store.version.checks_access_first:
                start = _NOWHERE
        else:
            reply.next_commit_position, reply.next_prepare_position = page.next
        reply.commit_position, reply.prepare_position = start
        _answer(request, parts, reply, command)

    def _check_log_request(self, request: Request, start: Place) -> None:
        error = _log_error(request.message, start)
        if not error or self._store.version.checks_access_first:
            self._require_access(request, ALL_STREAM)
        if error:
            raise LogReadError(error)

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


def _log_error(message: schema.ReadAllEvents | schema.FilteredReadAllEvents, start: Place) -> str:
    """The same for the log."""
    if message.max_count > MAX_READ:
        return _TOO_BIG
    return "Invalid position." if min(start) < 0 else ""


def _stream_form(request: Request) -> Form:
    """How the events of a stream are written: their numbers have 64 bits for every client (docs/protocol.md, 1.3)."""
    return request.client.form._replace(wide=True)


def _answer(request: Request, events: Sequence[bytes], rest: Message, command: Command) -> None:
    """Answer as such a command is answered."""
    payload = b"".join(events) + encode(rest, request.client.form)
    request.client.reply(_REPLIES[command], request.correlation, payload)

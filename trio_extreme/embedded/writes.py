"""Appending and deleting, as requests (docs/protocol.md, 3.1 and 3.3). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_extreme.embedded.acl import is_allowed
from trio_extreme.embedded.clients import Refusal, require
from trio_extreme.embedded.metadata import Right
from trio_extreme.embedded.store import Refused, Written
from trio_extreme.values import STREAM_EXISTS
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio_extreme.embedded.clients import Request
    from trio_extreme.embedded.records import Record
    from trio_extreme.embedded.store import Store
    from trio_extreme.embedded.subscriptions import Hub
    from trio_extreme.embedded.versions import ServerVersion

MAX_EVENT_SIZE = 16 * 1024 * 1024 - 10_000
"""Bytes of one event's data and metadata, and twice its type's characters; of its data alone on some servers."""

_ID_SIZE = 16
INVALID = -(2**31)
"""What a failed append has for numbers; no -1, which would be a number before the first."""
_NOWHERE = -1
_ANY = -2
TEXTS = {
    schema.OperationResult.WrongExpectedVersion: "Wrong expected version.",
    schema.OperationResult.StreamDeleted: "Stream is deleted.",
    schema.OperationResult.AccessDenied: "Access denied.",
}


class Writes:
    """The handlers of requests that change streams."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub

    def append(self, request: Request) -> None:
        """WriteEvents."""
        message: schema.WriteEvents = request.message
        stream, expected = message.event_stream_id, message.expected_version
        require(stream != "", "the stream's name is empty")
        require(expected >= _ANY or expected == STREAM_EXISTS, f"expected version {expected}")
        # A list, because each look into the message makes its events anew.
        events = list(message.events)
        for event in events:
            check_event(self._store.version, event)
        if is_allowed(self._store, request.identity, Right.WRITE, stream):
            outcome = self._store.append(stream, expected, events)
        else:
            outcome = Refused(schema.OperationResult.AccessDenied)
        reply = self._append_reply(stream, outcome)
        conclude(self._store, self._hub, outcome, lambda: request.reply(Command.WRITE_EVENTS_COMPLETED, reply))

    def delete(self, request: Request) -> None:
        """DeleteStream."""
        message: schema.DeleteStream = request.message
        stream, expected = message.event_stream_id, message.expected_version
        require(stream != "", "the stream's name is empty")
        require(expected >= _ANY, f"expected version {expected}")
        if is_allowed(self._store, request.identity, Right.DELETE, stream):
            outcome = self._store.delete(stream, expected, hard=message.hard_delete)
        else:
            outcome = Refused(schema.OperationResult.AccessDenied)
        reply = _delete_reply(outcome)
        if self._store.version.says_current_version_of_deletes:
            reply.current_version = outcome.current if isinstance(outcome, Refused) else outcome.last
        conclude(self._store, self._hub, outcome, lambda: request.reply(Command.DELETE_STREAM_COMPLETED, reply))

    def _append_reply(self, stream: str, outcome: Written | Refused) -> schema.WriteEventsCompleted:
        reply = _refused_append(outcome) if isinstance(outcome, Refused) else self._written(stream, outcome)
        if self._store.version.says_current_version:
            reply.current_version = outcome.current if isinstance(outcome, Refused) else 0
        return reply

    def _written(self, stream: str, written: Written) -> schema.WriteEventsCompleted:
        position = position_of(self._store, stream, written)
        return schema.WriteEventsCompleted(
            result=schema.OperationResult.Success,
            first_event_number=written.first,
            last_event_number=written.last,
            prepare_position=position,
            commit_position=position,
        )


def check_event(version: ServerVersion, event: schema.NewEvent) -> None:
    """Refuse a request that brings an event which can be none."""
    event_id, type_ = event.event_id, event.event_type
    require(len(event_id) == _ID_SIZE and any(event_id), "an event id is 16 bytes, not all zero")
    require(type_ != "", "an event's type is empty")
    size = len(event.data)
    if not version.counts_data_only:
        size += len(event.metadata) + 2 * len(type_)
    if size > MAX_EVENT_SIZE:
        msg = f"Record is too big: {size} bytes"
        raise Refusal(msg)


def conclude(store: Store, hub: Hub, outcome: Written | Refused, answer: Callable[[], None]) -> None:
    """Answer, and push what was written, in this server's order. Clients may count on neither."""
    records: Sequence[Record] = outcome.records if isinstance(outcome, Written) else ()
    if store.version.pushes_first:
        hub.publish(records)
        answer()
    else:
        answer()
        hub.publish(records)


def position_of(store: Store, stream: str, written: Written) -> int:
    """What a reply says of where it is; of what was there already only some servers know."""
    if written.position >= 0 or not store.version.says_where_it_was:
        return written.position
    found = store.storage.event(stream, written.last)
    return _NOWHERE if found is None else found.position


def _refused_append(refused: Refused) -> schema.WriteEventsCompleted:
    return schema.WriteEventsCompleted(
        result=refused.result,
        message=TEXTS[refused.result],
        first_event_number=INVALID,
        last_event_number=INVALID,
        prepare_position=INVALID,
        commit_position=0,
    )


def _delete_reply(outcome: Written | Refused) -> schema.DeleteStreamCompleted:
    if isinstance(outcome, Refused):
        return schema.DeleteStreamCompleted(
            result=outcome.result,
            message=TEXTS[outcome.result],
            prepare_position=_NOWHERE,
            commit_position=_NOWHERE,
        )
    return schema.DeleteStreamCompleted(
        result=schema.OperationResult.Success, prepare_position=outcome.position, commit_position=outcome.position
    )

"""Appends and deletes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from trio_extreme.errors import (
    FrameTooLarge,
    InvalidTransaction,
    OutcomeUnknown,
    ServerError,
    StreamDeleted,
    WrongExpectedVersion,
)
from trio_extreme.events import JSON_CONTENT
from trio_extreme.operations.base import AskAgain, Operation, Resend, right_denied, unknown_result
from trio_extreme.values import NO_STREAM, DeleteResult, Position, WriteResult
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, parse
from trio_extreme.wire.framing import MAX_FRAME_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from trio_extreme.events import NewEvent

_Result = schema.OperationResult
_SUCCESS = _Result.Success
_TIMEOUTS = (_Result.PrepareTimeout, _Result.CommitTimeout, _Result.ForwardTimeout)


class Append(Operation[WriteResult]):
    """Write events to one stream, all or none."""

    command = Command.WRITE_EVENTS
    answer = Command.WRITE_EVENTS_COMPLETED

    def __init__(self, stream: str, events: Sequence[NewEvent], expected: int, *, require_master: bool) -> None:
        self._stream = stream
        self._events = events
        self._expected = expected
        self._require_master = require_master
        # NO_STREAM protects no events where the stream was soft-deleted since: then they would be numbered on, and
        # written twice. Writing nothing twice is writing nothing.
        self.resend = Resend.SAME_IDS if expected >= 0 or not events else Resend.LOOK_UP
        size = sum([len(event.data) + len(event.metadata) for event in events])
        if size > MAX_FRAME_SIZE:
            msg = f"events: {size:,} bytes in one append; the limit of a frame is {MAX_FRAME_SIZE:,}: append fewer"
            raise FrameTooLarge(msg, size, MAX_FRAME_SIZE)

    @property
    def event_ids(self) -> Sequence[UUID]:
        """The ids of the events to write."""
        return [event.id for event in self._events]

    @property
    def look_in(self) -> str:
        """Its stream."""
        return self._stream

    def found(self, first: int, last: int) -> WriteResult:
        """Where the events are; of their place in the log a stream does not tell."""
        return WriteResult(first, last, None)

    def payload(self) -> bytes:
        """A WriteEvents."""
        message = schema.WriteEvents(
            event_stream_id=self._stream, expected_version=self._expected, require_master=self._require_master
        )
        add = message.events.add
        for event in self._events:
            add(
                event_id=event.id_bytes,
                event_type=event.type,
                data_content_type=JSON_CONTENT if event.is_json else 0,
                metadata_content_type=0,
                data=event.data,
                metadata=event.metadata,
            )
        return message.SerializeToString()

    def read(self, payload: bytes) -> WriteResult:
        """Where the events are."""
        done = parse(schema.WriteEventsCompleted, payload)
        if done.result != _SUCCESS:
            raise_refusal(done, self._stream, self._expected, _actual(done))
        return WriteResult(done.first_event_number, done.last_event_number, _position(done))


class Delete(Operation[DeleteResult]):
    """Delete a stream, softly or for ever."""

    command = Command.DELETE_STREAM
    answer = Command.DELETE_STREAM_COMPLETED

    def __init__(self, stream: str, expected: int, *, hard: bool, require_master: bool) -> None:
        self._stream = stream
        self._expected = expected
        self._hard = hard
        self._require_master = require_master
        # A number protects a tombstone, which is the last event there can be, but not a soft delete.
        self.resend = Resend.SAME_IDS if hard and expected >= NO_STREAM else Resend.NEVER

    def payload(self) -> bytes:
        """A DeleteStream."""
        return schema.DeleteStream(
            event_stream_id=self._stream,
            expected_version=self._expected,
            require_master=self._require_master,
            hard_delete=self._hard,
        ).SerializeToString()

    def read(self, payload: bytes) -> DeleteResult:
        """Where the record of it is."""
        done = parse(schema.DeleteStreamCompleted, payload)
        if done.result != _SUCCESS:
            actual = done.current_version if done.HasField("current_version") else None
            raise_refusal(done, self._stream, self._expected, actual, right="$d")
        return DeleteResult(_position(done))

    def believes(self, refusal: ServerError) -> bool:
        """A version that is wrong is that of a stream that is not hard-deleted."""
        return self._hard and isinstance(refusal, WrongExpectedVersion)

    def settle(self, refusal: ServerError) -> DeleteResult:
        """A hard delete that is asked for again finds its own tombstone."""
        if self._hard and isinstance(refusal, StreamDeleted):
            return DeleteResult(None)
        raise refusal


def _actual(done: schema.WriteEventsCompleted) -> int | None:
    """The stream's last number, of a WrongExpectedVersion.

    Servers from 22.6 do not send zeros, so that 0 looks like 3.9, which does not know the field; but 3.9 sends the
    commit position, which is 0 in a refusal.
    """
    if done.HasField("current_version"):
        return done.current_version
    return None if done.HasField("commit_position") else 0


def _position(done: schema.WriteEventsCompleted | schema.DeleteStreamCompleted) -> Position | None:
    if done.commit_position < 0:
        return None
    return Position(done.commit_position, done.prepare_position)


def raise_refusal(
    done: schema.WriteEventsCompleted | schema.DeleteStreamCompleted,
    stream: str,
    expected: int,
    actual: int | None,
    *,
    right: str = "$w",
) -> NoReturn:
    """Raise what a result other than Success means for a write to this stream."""
    if done.result == _Result.WrongExpectedVersion:
        raise WrongExpectedVersion(stream, expected, actual)
    if done.result == _Result.StreamDeleted:
        raise StreamDeleted(stream)
    if done.result == _Result.AccessDenied:
        raise right_denied(stream, right)
    if done.result == _Result.InvalidTransaction:
        msg = "the transaction is not known to the server, or was committed already"
        raise InvalidTransaction(msg)
    if done.result in _TIMEOUTS:
        # The node gave up waiting for the others; they may have it all the same (docs/protocol.md, pitfall 21).
        msg = f"the servers did not agree in time on a write to stream {stream!r}; it may have happened"
        raise AskAgain(OutcomeUnknown(msg), executed=True)
    raise unknown_result("a write was answered", done.result)

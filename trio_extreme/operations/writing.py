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
    named,
)
from trio_extreme.events import JSON_CONTENT
from trio_extreme.operations.base import AskAgain, Operation, Resend, right_denied, unknown_result
from trio_extreme.values import ANY, NO_STREAM, DeleteResult, Position, WriteResult
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, parse
from trio_extreme.wire.framing import MAX_FRAME_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from trio_extreme.events import NewEvent

_Result = schema.OperationResult
_SUCCESS = _Result.Success
TIMEOUTS = (_Result.PrepareTimeout, _Result.CommitTimeout, _Result.ForwardTimeout)
"""The node gave up waiting for the others; they may have it all the same (docs/protocol.md, pitfall 21)."""


class Append(Operation[WriteResult]):
    """Write events to one stream, all or none."""

    command = Command.WRITE_EVENTS
    answer = Command.WRITE_EVENTS_COMPLETED

    def __init__(self, stream: str, events: Sequence[NewEvent], expected: int, *, require_master: bool) -> None:
        self._stream = self.look_in = stream
        self._events = events
        self._expected = expected
        self._require_master = require_master
        # NO_STREAM protects no events where the stream was soft-deleted since: then they would be numbered on, and
        # written twice. Writing nothing twice is writing nothing.
        self.resend = Resend.SAME_IDS if expected >= 0 or not events else Resend.LOOK_UP
        check_size(events)

    @property
    def event_ids(self) -> Sequence[UUID]:
        """The ids of the events to write."""
        return [event.id for event in self._events]

    def found(self, first: int, last: int) -> WriteResult:
        """Where the events are; of their place in the log a stream does not tell."""
        return WriteResult(first, last, None)

    def payload(self) -> bytes:
        """A WriteEvents."""
        message = schema.WriteEvents(
            event_stream_id=self._stream, expected_version=self._expected, require_master=self._require_master
        )
        add_events(message, self._events)
        return message.SerializeToString()

    def read(self, payload: bytes) -> WriteResult:
        """Where the events are."""
        done = parse(schema.WriteEventsCompleted, payload)
        if done.result != _SUCCESS:
            raise_refusal(done.result, self._stream, self._expected, _actual(done))
        return WriteResult(done.first_event_number, done.last_event_number, position_of(done))


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
        actual = done.current_version if done.HasField("current_version") else None
        if done.result == _Result.WrongExpectedVersion and self._finds_nothing(actual):
            return DeleteResult(None)
        if done.result != _SUCCESS:
            raise_refusal(done.result, self._stream, self._expected, actual, right="$d")
        return DeleteResult(position_of(done))

    def _finds_nothing(self, actual: int | None) -> bool:
        """Whether a wrong version means that there was never such a stream.

        Older servers hide it then, which nobody can see. From 21.10 on they refuse that, though it be the version that
        was expected (docs/protocol.md, 3.3); ANY is refused for nothing else.
        """
        return not self._hard and (self._expected == ANY or (self._expected == NO_STREAM and actual == NO_STREAM))

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


def position_of(
    done: schema.WriteEventsCompleted | schema.DeleteStreamCompleted | schema.TransactionCommitCompleted,
) -> Position | None:
    """Where in the log a write is; None where the server had it already and does not say."""
    if done.commit_position < 0:
        return None
    return Position(done.commit_position, done.prepare_position)


def check_size(events: Sequence[NewEvent]) -> None:
    """Refuse what is too much for one frame, before it is encoded. The frame itself is a little larger."""
    size = sum([len(event.data) + len(event.metadata) for event in events])
    if size > MAX_FRAME_SIZE:
        msg = f"events: {size:,} bytes in one append; the limit of a frame is {MAX_FRAME_SIZE:,}: append fewer"
        raise FrameTooLarge(msg, size, MAX_FRAME_SIZE)


def add_events(message: schema.WriteEvents | schema.TransactionWrite, events: Sequence[NewEvent]) -> None:
    """Put events into a request."""
    add = message.events.add
    for event in events:
        add(
            event_id=event.id_bytes,
            event_type=event.type,
            data_content_type=JSON_CONTENT if event.is_json else 0,
            metadata_content_type=0,
            data=event.data,
            metadata=event.metadata,
        )


def raise_refusal(
    result: int, stream: str, expected: int | None, actual: int | None = None, *, right: str = "$w"
) -> NoReturn:
    """Raise what a result other than Success means for a write to this stream."""
    if result == _Result.WrongExpectedVersion:
        raise WrongExpectedVersion(stream, expected, actual)
    if result == _Result.StreamDeleted:
        raise StreamDeleted(stream)
    if result == _Result.AccessDenied:
        raise right_denied(stream, right)
    if result == _Result.InvalidTransaction:
        msg = "the transaction is not known to the server, or was committed already"
        raise InvalidTransaction(msg)
    if result in TIMEOUTS:
        msg = f"the servers did not agree in time on a write to {named(stream)}; it may have happened"
        raise AskAgain(OutcomeUnknown(msg), executed=True)
    raise unknown_result("a write was answered", result)

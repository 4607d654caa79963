"""Explicit transactions: begun, written to, and committed, in a request each (docs/protocol.md, 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

from trio_extreme.errors import OperationTimedOut
from trio_extreme.operations.base import AskAgain, Operation, Resend, access_denied
from trio_extreme.operations.writing import TIMEOUTS, add_events, check_size, position_of, raise_refusal
from trio_extreme.values import NO_STREAM, WriteResult
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from trio_extreme.events import NewEvent

_Result = schema.OperationResult


class Begun(NamedTuple):
    """How a transaction was begun. One that is continued by its id was begun elsewhere, and nobody tells how."""

    stream: str
    expected: int


class StartTransaction(Operation[int]):
    """Begin a transaction; its id. One that is never committed is never seen, so beginning twice does no harm."""

    command = Command.TRANSACTION_START
    answer = Command.TRANSACTION_START_COMPLETED

    def __init__(self, begun: Begun, *, require_master: bool) -> None:
        self._begun = begun
        self._require_master = require_master

    def payload(self) -> bytes:
        """A TransactionStart."""
        stream, expected = self._begun
        return schema.TransactionStart(
            event_stream_id=stream, expected_version=expected, require_master=self._require_master
        ).SerializeToString()

    def read(self, payload: bytes) -> int:
        """The id."""
        done = parse(schema.TransactionStartCompleted, payload)
        if done.result in TIMEOUTS:
            msg = f"the servers did not agree in time on a transaction on stream {self._begun.stream!r}"
            raise AskAgain(OperationTimedOut(msg), executed=False)
        if done.result != _Result.Success:
            raise_refusal(done.result, self._begun.stream, self._begun.expected)
        return done.transaction_id


class WriteTransaction(Operation[None]):
    """Add events to a transaction. Sent twice, they would be in it twice."""

    command = Command.TRANSACTION_WRITE
    answer = Command.TRANSACTION_WRITE_COMPLETED

    def __init__(self, transaction: int, events: Sequence[NewEvent], *, require_master: bool) -> None:
        self._transaction = transaction
        self._events = events
        self._require_master = require_master
        self.resend = Resend.NEVER if events else Resend.AGAIN
        check_size(events)

    @property
    def event_ids(self) -> Sequence[UUID]:
        """The ids of the events to add."""
        return [event.id for event in self._events]

    def payload(self) -> bytes:
        """A TransactionWrite."""
        message = schema.TransactionWrite(transaction_id=self._transaction, require_master=self._require_master)
        add_events(message, self._events)
        return message.SerializeToString()

    def read(self, payload: bytes) -> None:
        """Nothing: servers up to 5.0 acknowledge before they have looked (docs/protocol.md, pitfall 52)."""
        done = parse(schema.TransactionWriteCompleted, payload)
        if done.result != _Result.Success:
            _raise_refusal(done.result, self._transaction, None)


class CommitTransaction(Operation[WriteResult]):
    """Make a transaction's events visible, all at once.

    `begun` is None where it was begun elsewhere. `events` are those that were added here.
    """

    command = Command.TRANSACTION_COMMIT
    answer = Command.TRANSACTION_COMMIT_COMPLETED

    def __init__(
        self, transaction: int, begun: Begun | None, event_ids: Sequence[UUID], *, require_master: bool
    ) -> None:
        self._transaction = transaction
        self._begun = begun
        self._event_ids = event_ids
        self._require_master = require_master
        self.resend = _resend(begun, event_ids)
        if begun is not None and self.resend is not Resend.NEVER:
            # With ANY it would prove nothing to find that they are not there.
            self.look_in = begun.stream

    @property
    def event_ids(self) -> Sequence[UUID]:
        """The ids of the events that were added here."""
        return self._event_ids

    def found(self, first: int, last: int) -> WriteResult:
        """Where the events are; of their place in the log a stream does not tell."""
        return WriteResult(first, last, None)

    def payload(self) -> bytes:
        """A TransactionCommit."""
        return schema.TransactionCommit(
            transaction_id=self._transaction, require_master=self._require_master
        ).SerializeToString()

    def read(self, payload: bytes) -> WriteResult:
        """Where the events are. The position is that of the commit, which is behind them."""
        done = parse(schema.TransactionCommitCompleted, payload)
        if done.result != _Result.Success:
            _raise_refusal(done.result, self._transaction, self._begun)
        return WriteResult(done.first_event_number, done.last_event_number, position_of(done))


def _resend(begun: Begun | None, event_ids: Sequence[UUID]) -> Resend:
    """What protects a commit is what protects an append, and nothing does that of which we know too little."""
    if begun is None or begun.expected < NO_STREAM:
        return Resend.NEVER
    return Resend.SAME_IDS if begun.expected >= 0 or not event_ids else Resend.LOOK_UP


def _raise_refusal(result: int, transaction: int, begun: Begun | None) -> NoReturn:
    if result == _Result.AccessDenied:
        # Which is what servers up to 5.0 say of an id that they do not know.
        raise access_denied(f"write to the stream of transaction {transaction}, or there is no such transaction")
    stream, expected = begun or ("", None)
    raise_refusal(result, stream, expected)

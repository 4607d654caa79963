"""Explicit transactions, as requests (docs/protocol.md, 3.2). Pure.

Any connection may go on with a transaction by its id, also after a restart: all there is of it is in the log.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trio_extreme.embedded.acl import is_allowed
from trio_extreme.embedded.clients import require
from trio_extreme.embedded.metadata import Right
from trio_extreme.embedded.store import Refused, Written
from trio_extreme.embedded.writes import INVALID, TEXTS, check_event, conclude, position_of
from trio_extreme.values import ANY
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.embedded.clients import Request
    from trio_extreme.embedded.store import Store
    from trio_extreme.embedded.subscriptions import Hub

_Result = schema.OperationResult
_DENIED = TEXTS[_Result.AccessDenied]
_NO_ID = -1


class Transactions:
    """The handlers of requests about explicit transactions."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub

    def start(self, request: Request) -> None:
        """TransactionStart."""
        message: schema.TransactionStart = request.message
        stream, expected = message.event_stream_id, message.expected_version
        require(stream != "", "the stream's name is empty")
        require(expected >= ANY, f"expected version {expected}")
        reply = schema.TransactionStartCompleted(transaction_id=_NO_ID, result=_Result.AccessDenied, message=_DENIED)
        if is_allowed(self._store, request.identity, Right.WRITE, stream):
            begun = self._store.begin(stream, expected)
            reply = schema.TransactionStartCompleted(transaction_id=begun, result=_Result.Success)
        request.reply(Command.TRANSACTION_START_COMPLETED, reply)

    def write(self, request: Request) -> None:
        """TransactionWrite. Old servers acknowledge whatever it is, and only then look whether there is such a one."""
        message: schema.TransactionWrite = request.message
        transaction = message.transaction_id
        require(transaction >= 0, f"transaction id {transaction}")
        for event in message.events:
            check_event(self._store.version, event)
        if self._is_ignored(transaction):
            return
        begun = self._store.begun(transaction)
        reply = schema.TransactionWriteCompleted(transaction_id=transaction, result=_Result.Success)
        if not (self._store.version.acknowledges_before_looking or self._may_write(request, begun)):
            reply.result, reply.message = _Result.AccessDenied, _DENIED
        elif begun is not None:
            self._store.write(transaction, begun.event_stream_id, message.events)
        request.reply(Command.TRANSACTION_WRITE_COMPLETED, reply)

    def commit(self, request: Request) -> None:
        """TransactionCommit."""
        message: schema.TransactionCommit = request.message
        transaction = message.transaction_id
        require(transaction >= 0, f"transaction id {transaction}")
        if self._is_ignored(transaction):
            return
        begun = self._store.begun(transaction)
        if begun is None or not self._may_write(request, begun):
            outcome: Written | Refused = Refused(_Result.AccessDenied)
        else:
            outcome = self._store.commit(transaction, begun)
        stream = "" if begun is None else begun.event_stream_id
        reply = _refused(outcome) if isinstance(outcome, Refused) else self._committed(stream, outcome)
        reply.transaction_id = transaction
        conclude(self._store, self._hub, outcome, partial(request.reply, Command.TRANSACTION_COMMIT_COMPLETED, reply))

    def _may_write(self, request: Request, begun: schema.TransactionStart | None) -> bool:
        """Whoever asks needs the right to write to the stream; where there is no transaction, nobody has it."""
        return begun is not None and is_allowed(self._store, request.identity, Right.WRITE, begun.event_stream_id)

    def _is_ignored(self, transaction: int) -> bool:
        """Whether this server fails inside over an id where no record begins, and never answers."""
        version = self._store.version
        return not (version.answers_impossible_transactions or self._store.storage.begins(transaction))

    def _committed(self, stream: str, written: Written) -> schema.TransactionCommitCompleted:
        position = position_of(self._store, stream, written)
        return schema.TransactionCommitCompleted(
            result=_Result.Success,
            message="",
            first_event_number=written.first,
            last_event_number=written.last,
            prepare_position=position,
            commit_position=position,
        )


def _refused(refused: Refused) -> schema.TransactionCommitCompleted:
    return schema.TransactionCommitCompleted(
        result=refused.result,
        message=TEXTS[refused.result],
        first_event_number=INVALID,
        last_event_number=INVALID,
        prepare_position=0,
        commit_position=0,
    )

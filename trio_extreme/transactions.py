"""Explicit transactions: a block in which events are gathered on the server, to become visible together at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_extreme.errors import InvalidTransaction, OutcomeUnknown, TrioExtremeError
from trio_extreme.operations.checks import check_events
from trio_extreme.operations.transactions import CommitTransaction, StartTransaction, WriteTransaction

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self
    from uuid import UUID

    from trio_extreme.calls import Calls
    from trio_extreme.events import NewEvent
    from trio_extreme.operations.transactions import Begun
    from trio_extreme.values import Credentials, WriteResult


class Transaction:
    """What `transaction` and `continue_transaction` return: `async with conn.transaction("s", expected=3) as tx`.

    Events that are written to it become visible all together when the block ends normally, and never where it ends by
    an error or is cancelled; then nothing is sent, for servers know no rollback: what is not committed is never seen.
    It has no task of its own, and needs no connection between its requests: it goes on over a later one.

    One task at a time may write to it, because the order of its events is the order of its writes; another meets
    `trio.BusyResourceError`.
    """

    def __init__(
        self,
        calls: Calls,
        begun: Begun | None,
        id: int | None,
        *,
        require_master: bool,
        credentials: Credentials | None,
    ) -> None:
        self._calls = calls
        self._begun = begun
        self._id = id
        self._require_master = require_master
        self._credentials = credentials
        self._entered = False
        self._inside = False
        self._writing = False
        # Whether it is known of every event that it is there, or is not.
        self._certain = True
        self._event_ids: list[UUID] = []
        self._began = 0.0
        self._result: WriteResult | None = None

    def __repr__(self) -> str:
        where = "" if self._begun is None else f" on stream {self._begun.stream!r}"
        return f"<Transaction {self._id}{where}: {len(self._event_ids)} events written>"

    @property
    def id(self) -> int:
        """Its id, by which `continue_transaction` goes on with it, in any process."""
        if self._id is None:
            msg = "a transaction has an id once its block was entered: async with conn.transaction(…) as tx"
            raise RuntimeError(msg)
        return self._id

    @property
    def result(self) -> WriteResult | None:
        """What the commit did; None until then, and where there was none, or nobody knows.

        Its `position` is that of the commit's own record: the events have the same `commit` and a smaller `prepare`. To
        a commit that was sent again servers from 20.10 answer with the position of its last event.
        """
        return self._result

    async def __aenter__(self) -> Self:
        if self._entered:
            msg = "a transaction is entered once; ask the connection for another"
            raise RuntimeError(msg)
        self._entered = True
        self._calls.check_writable()
        self._began = self._calls.now()
        if self._begun is None:
            await trio.lowlevel.checkpoint()
        else:
            operation = StartTransaction(self._begun, require_master=self._require_master)
            self._id = await self._calls.call(operation, self._credentials)
        self._inside = True
        return self

    async def write(self, events: NewEvent | Iterable[NewEvent]) -> None:
        """Add one event, or several. Nobody sees them before the block ends.

        What is wrong with the transaction is mostly told at its end: servers up to 5.0 acknowledge before they have
        stored anything, even for an id that they do not know (docs/protocol.md, 3.2 and pitfall 52).

        It is never sent twice. Where it was sent and no answer came, it raises `OutcomeUnknown`. That, or cancelling,
        leaves open whether the events are there, so that the transaction cannot be committed any more: every further
        write, and the end of the block, raises `InvalidTransaction`. So does a write after the end. A write that was
        refused, or never sent, added nothing; who handles its error may go on.
        """
        batch = check_events(events)
        operation = WriteTransaction(self._check(), batch, require_master=self._require_master)
        self._writing = True
        self._certain = False
        try:
            await self._calls.call(operation, self._credentials)
        except OutcomeUnknown:
            raise
        except TrioExtremeError:
            self._certain = True
            raise
        finally:
            self._writing = False
        self._certain = True
        self._event_ids += operation.event_ids

    def _check(self) -> int:
        """The id of a transaction that may be written to, or committed, now."""
        if not self._entered:
            msg = "a transaction is written to inside its block: async with conn.transaction(…) as tx"
            raise RuntimeError(msg)
        if not self._inside:
            msg = f"transaction {self._id}: its block was left, nothing can be added to it"
            raise InvalidTransaction(msg)
        if self._writing:
            msg = f"transaction {self._id}: another task is writing to it"
            raise trio.BusyResourceError(msg)
        if not self._certain:
            msg = (
                f"transaction {self._id}: a write to it was cancelled or got no answer, so that nobody knows what it "
                "holds; it was not committed, and never will be: begin another"
            )
            raise InvalidTransaction(msg)
        return self.id

    async def __aexit__(  # noqa: ASYNC910 - where there is nothing to commit, an error is on its way
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            committed = self._check() if kind is None else None
        finally:
            self._inside = False
        if committed is not None:
            await self._commit(committed)  # noqa: ASYNC102 - who is cancelled does not want it

    async def _commit(self, id: int) -> None:
        operation = CommitTransaction(id, self._begun, self._event_ids, require_master=self._require_master)
        self._result = result = await self._calls.call(operation, self._credentials, began=self._began)
        committed = result.last - result.first + 1
        if committed < len(self._event_ids):
            msg = (
                f"transaction {id}: {committed} of {len(self._event_ids)} events were committed: the server had "
                "acknowledged more than it stored before it was stopped, as servers up to 5.0 do"
            )
            raise OutcomeUnknown(msg, self._event_ids)

"""Explicit transactions as workloads use them: written bit by bit, handed on by their id, and committed by the last.

The ledger knows each as one append. Nothing of it may be there before its commit was asked for, whatever became of what
was written to it until then.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.client import BAD_LUCK
from trio_extreme import InvalidTransaction, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    import trio

    from tests.simulation.client import Client
    from tests.simulation.ledger import Call, Told
    from trio_extreme import NewEvent, Transaction, WriteResult


class Manner(NamedTuple):
    """How somebody deals with a transaction."""

    #: Who writes to it, one after another: each but the first goes on with it by its id.
    hands: Sequence[Client]
    #: Whether it is committed at the end; otherwise its last block is left by an error.
    commits: bool
    #: What may give up a write; who has it goes on as if nothing had been, also where a write has failed.
    haste: Callable[[], AbstractContextManager[trio.CancelScope]] | None


class _Torn(Exception):
    """A block is left without a commit."""


async def transact(stream: str, batches: Sequence[Sequence[NewEvent]], expected: int, manner: Manner) -> WriteResult:
    """One transaction, from its beginning to its commit. Raises `InvalidTransaction` where it is left without."""
    first = manner.hands[0]
    with first.in_time("transaction", calls=len(batches) + 2, hands=manner.hands):
        call = first.ledger.begin(first.name, "append", stream, expected, [one for batch in batches for one in batch])
        call.is_asked = False
        told: Told = None
        try:
            told = result = await _Work(call, manner).do(batches)
        except BaseException as error:
            told = error
            raise
        finally:
            first.ledger.end(call, told)
        return result


class _Work:
    """What is done to one transaction."""

    def __init__(self, call: Call, manner: Manner) -> None:
        self._call = call
        self._manner = manner

    async def do(self, batches: Sequence[Sequence[NewEvent]]) -> WriteResult:
        """Each hand writes its share."""
        hands = self._manner.hands
        begins = hands[0].conn.transaction(self._call.stream, expected=self._call.expected)
        if len(hands) == 1:
            return await self._finish(begins, hands[0], batches)
        await self._begin(begins, hands[0], batches[:1])
        for hand in hands[1:-1]:
            await self._begin(hand.conn.continue_transaction(begins.id), hand, ())
        return await self._finish(hands[-1].conn.continue_transaction(begins.id), hands[-1], batches[1:])

    async def _begin(self, block: Transaction, hand: Client, batches: Iterable[Sequence[NewEvent]]) -> None:
        """Write something, and leave the rest to others."""
        with suppress(_Torn):
            async with block as tx:
                for batch in batches:
                    await tx.write(batch)
                hand.trace.note(hand.name, f"hands on transaction {tx.id}")
                raise _Torn

    async def _finish(self, block: Transaction, hand: Client, batches: Iterable[Sequence[NewEvent]]) -> WriteResult:
        async with block as tx:
            for batch in batches:
                await self._write(tx, hand, batch)
            if not self._manner.commits:
                msg = "left without a commit"
                raise InvalidTransaction(msg)
            self._call.is_asked = True
        assert tx.result is not None
        return tx.result

    async def _write(self, tx: Transaction, hand: Client, batch: Sequence[NewEvent]) -> None:
        if self._manner.haste is None:
            await tx.write(batch)
            return
        try:
            with self._manner.haste():
                await tx.write(batch)
        except BAD_LUCK as error:
            hand.trace.note(hand.name, f"goes on with transaction {tx.id}, of which it was told: {error}")
            # What nobody knows is not committed; what is known not to be there is left out.
            if not isinstance(error, OutcomeUnknown):
                hand.ledger.leave_out(self._call, batch)

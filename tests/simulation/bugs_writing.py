"""Planted bugs of what changes streams: what is sent again, and what callers are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from tests.simulation.planting import bug
from trio_extreme.calls import Calls
from trio_extreme.line import Line
from trio_extreme.operations.base import Resend
from trio_extreme.operations.transactions import CommitTransaction, WriteTransaction
from trio_extreme.operations.writing import Append
from trio_extreme.transactions import Transaction
from trio_extreme.values import ANY, NO_STREAM
from trio_extreme.wire.schema import WriteEvents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_extreme.pending import Slot


@bug
def resent_with_new_ids() -> Iterator[None]:
    """An append whose session died is sent again as if its events were new ones."""
    silence = Calls._silence

    def renew(self: Calls, slot: Slot[Any], cause: Any) -> None:
        if slot.sent and isinstance(slot.operation, Append):
            message = WriteEvents.FromString(slot.payload)
            for event in message.events:
                event.event_id = bytes(255 - byte for byte in event.event_id)
            slot.payload = message.SerializeToString()
        silence(self, slot, cause)

    with patch.object(Calls, "_silence", renew):
        yield


@bug
def any_resent_without_looking() -> Iterator[None]:
    """An append with ANY whose session died is sent again, and the node may have forgotten its ids."""
    init = Append.__init__

    def trust_the_node(self: Append, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.resend = Resend.SAME_IDS

    with patch.object(Append, "__init__", trust_the_node):
        yield


@bug
def no_stream_taken_for_a_number() -> Iterator[None]:
    """An append with NO_STREAM is sent again like one with a number, though its stream may have come and gone."""
    init = Append.__init__

    def trust_the_version(self: Append, stream: str, events: Any, expected: int, **options: Any) -> None:
        init(self, stream, events, expected, **options)
        if expected == NO_STREAM:
            self.resend = Resend.SAME_IDS

    with patch.object(Append, "__init__", trust_the_version):
        yield


@bug
def committed_after_an_error() -> Iterator[None]:
    """The block of a transaction that ends by an error commits what there is."""
    leave = Transaction.__aexit__

    async def commit(self: Transaction, kind: Any, error: Any, traceback: Any) -> None:
        await leave(self, None, None, None)

    with patch.object(Transaction, "__aexit__", commit):
        yield


@bug
def committed_in_doubt() -> Iterator[None]:
    """Who handles the error of a write that got no answer may commit the transaction all the same."""
    write = Transaction.write

    async def take_for_certain(self: Transaction, events: Any) -> None:
        try:
            await write(self, events)
        finally:
            self._certain = True

    with patch.object(Transaction, "write", take_for_certain):
        yield


@bug
def any_commit_sent_again() -> Iterator[None]:
    """The commit of a transaction that was begun with ANY is sent again, and the node may have forgotten its ids."""
    init = CommitTransaction.__init__

    def trust_the_node(self: CommitTransaction, transaction: int, begun: Any, *args: Any, **options: Any) -> None:
        init(self, transaction, begun, *args, **options)
        if begun is not None and begun.expected == ANY:
            self.resend = Resend.SAME_IDS

    with patch.object(CommitTransaction, "__init__", trust_the_node):
        yield


@bug
def written_to_a_transaction_twice() -> Iterator[None]:
    """A write to a transaction that got no answer is sent again."""
    init = WriteTransaction.__init__

    def repeat(self: WriteTransaction, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.resend = Resend.AGAIN

    with patch.object(WriteTransaction, "__init__", repeat):
        yield


@bug
def sent_for_the_cancelled() -> Iterator[None]:
    """What waits to be sent is sent, whether its caller is still there or not."""

    def forget(self: Line, slot: Slot[Any]) -> None:
        if self._session is not None:
            self._session._slots.pop(slot.correlation, None)

    with patch.object(Line, "forget", forget):
        yield


@bug
def doubt_forgotten() -> Iterator[None]:
    """An append that was sent and has got no answer in time is told as never sent."""

    def raise_for(self: Calls, slot: Slot[Any], error: Exception) -> None:
        raise error

    with patch.object(Calls, "_raise_for", raise_for):
        yield

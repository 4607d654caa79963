"""Planted bugs of listeners: each would lose an event, or count it twice, where a process dies at the wrong moment."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from trio_extreme.delivering import OneByOne
from trio_extreme.progress import Window
from trio_extreme.sqlite_checkpoints import SqliteCheckpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@contextmanager
def stored_before_it_was_handled() -> Iterator[None]:
    """The checkpoint moves first, and then the handler is called."""

    async def deliver(self: OneByOne, events: Any) -> None:
        for event in events:
            self._progress.move(event.checkpoint)
            await self._progress.keep()
            if self._brake.pulled or not await self._attempts.handle(event):
                return
            await self._give_turn()

    with patch.object(OneByOne, "deliver", deliver):
        yield


@contextmanager
def behind_the_furthest_that_is_done() -> Iterator[None]:
    """Where several are handled at a time, the checkpoint is that of the last one that was done."""

    def finish(self: Window, ticket: Any) -> Any:
        ticket.done = True
        self._tickets.remove(ticket)
        return ticket.place, ticket.events

    with patch.object(Window, "finish", finish):
        yield


@contextmanager
def committed_without_the_checkpoint() -> Iterator[None]:
    """What the handler did is in one transaction, and the checkpoint in none."""
    transact = SqliteCheckpoints.transact

    async def leave_out(self: SqliteCheckpoints, name: str, checkpoint: str | None, work: Any) -> bool:
        return await transact(self, name, None, work)

    with patch.object(SqliteCheckpoints, "transact", leave_out):
        yield


LISTENING_BUGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    bug.__name__: bug
    for bug in (stored_before_it_was_handled, behind_the_furthest_that_is_done, committed_without_the_checkpoint)
}

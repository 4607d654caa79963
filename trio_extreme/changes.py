"""What becomes of the connection, told to whoever asks."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

import trio

from trio_extreme.notices import Closed, Connected, Redirected

if TYPE_CHECKING:
    from trio_extreme.notices import Change

logger = logging.getLogger("trio_extreme.connection")

KEPT = 100
"""How many changes are kept for those who do not keep pace; older ones they miss."""


class Changes:
    """The last changes, in order. Nobody has to say that they do not watch any more."""

    def __init__(self) -> None:
        self._kept: deque[Change] = deque(maxlen=KEPT)
        self._count = 0
        self._lot = trio.lowlevel.ParkingLot()

    def note(self, change: Change) -> None:
        """Something has changed. Of what went wrong, and is tried again, the log hears from who tries."""
        if isinstance(change, Connected):
            logger.info("connected to %s:%d", change.host, change.port)
        elif isinstance(change, Redirected):
            where = "where its nodes say" if change.endpoint is None else "{}:{}".format(*change.endpoint)
            logger.info("the node is not the master: moving to %s", where)
        elif isinstance(change, Closed):
            logger.info("no connection any more: %s", change.reason)
        self._kept.append(change)
        self._count += 1
        self._lot.unpark_all()

    def watch(self) -> ChangeIterator:
        """All changes from the present state on."""
        return ChangeIterator(self)

    @property
    def newest(self) -> int:
        """The index of the newest change; those that are not kept any more count too."""
        return self._count - 1

    @property
    def oldest(self) -> int:
        """The index of the oldest change that is kept."""
        return self._count - len(self._kept)

    def at(self, index: int) -> Change:
        """The change with this index."""
        return self._kept[index - self.oldest]

    async def wait_for_more(self) -> None:
        """Wait until there is a newer one."""
        await self._lot.park()


class ChangeIterator:
    """What `conn.changes()` returns: an async iterator. It begins with the present state, and ends after `Closed`.

    Each iterator goes its own way. One that is far behind misses the oldest changes. Cancelling loses none.
    """

    __slots__ = ("_changes", "_ended", "_next")

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        # Before the first there is no state to begin with.
        self._next = max(0, changes.newest)
        self._ended = False

    def __aiter__(self) -> ChangeIterator:
        return self

    async def __anext__(self) -> Change:
        await trio.lowlevel.checkpoint()
        if self._ended:
            raise StopAsyncIteration
        while self._next > self._changes.newest:
            await self._changes.wait_for_more()
        index = max(self._next, self._changes.oldest)
        self._next = index + 1
        change = self._changes.at(index)
        self._ended = isinstance(change, Closed)
        return change

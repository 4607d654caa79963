"""What a master says after a write, it says once a majority of the cluster has that write.

So each connection of a master keeps its packages back, as those of a node with a file do until its disk has it
(`commits`), and nobody else need know.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from trio_extreme.embedded.commits import SIGNS_OF_LIFE, Commits
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.embedded.cluster_log import Copy
    from trio_extreme.embedded.commits import RunSync
    from trio_extreme.embedded.line import Line

_MOST_PENDING = 4 * 1024 * 1024
"""Bytes of the log that may wait for a majority. A master without one takes no more."""


class Acknowledgements(Commits):
    """Those of one node. A replica has none to wait for: a majority has what it shows."""

    # A majority may be missing for long. Who connects meanwhile is welcome.
    passing = SIGNS_OF_LIFE | {
        Command.PONG,
        Command.CLIENT_IDENTIFIED,
        Command.AUTHENTICATED,
        Command.NOT_AUTHENTICATED,
        Command.NOT_HANDLED,
        Command.BAD_REQUEST,
    }

    def __init__(self, copy: Copy, run_sync: RunSync, line: Line, passed: Callable[[], None]) -> None:
        super().__init__(copy, run_sync, line, passed)
        self._copy = copy
        self._leads = False
        self._confirmed = 0
        self._later: deque[tuple[int, Callable[[], None]]] = deque()

    @property
    def written(self) -> int:
        """How many batches there are."""
        return len(self._copy.journal) if self._leads else self._confirmed

    @property
    def durable(self) -> int:
        """How many of them a majority has."""
        return self._confirmed

    @property
    def is_done(self) -> bool:
        """Whether a majority has everything."""
        return not self._leads or self._confirmed == len(self._copy.journal)

    @property
    def is_crowded(self) -> bool:
        """Whether so much waits for a majority that nobody should write any more."""
        return not self.is_done and self._copy.end - self._copy.journal[self._confirmed - 1].batch.end > _MOST_PENDING

    async def pass_by(self) -> None:
        """Wait until a majority has what was written before, or the node is no master any more."""
        await trio.lowlevel.checkpoint()
        written = self.written
        while self._leads and self._confirmed < written:
            await self._waiting.park()

    def lead(self, confirmed: int) -> None:
        """Begin as master, of whose log a majority has so much."""
        self._leads, self._confirmed = True, confirmed

    def confirm(self, count: int) -> None:
        """A majority has so many batches."""
        if count <= self._confirmed:
            return
        self._confirmed = count
        self._passed()
        self._waiting.unpark_all()
        while self._later and self._later[0][0] <= count:
            self._later.popleft()[1]()

    def resign(self) -> None:
        """End as master: what waits for a majority is never said."""
        self._leads = False
        self._later.clear()
        self._waiting.unpark_all()

    def later(self, call: Callable[[], None]) -> None:
        """Call it once a majority has what is written now."""
        if self.is_done:
            call()
        else:
            self._later.append((self.written, call))

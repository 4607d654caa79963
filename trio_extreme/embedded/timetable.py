"""What is to happen later, in one task: what is due at the same time happens in the order in which it was asked for."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


class Timetable:
    """Calls at their times. Tasks of their own would be simpler, and wake up in any order where they wake together."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._sleep = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Timetable: {len(self._calls)} calls>"

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it in so many seconds; never at once, not even after none."""
        due = trio.current_time() + seconds
        heappush(self._calls, (due, next(self._numbers), call))
        self._sleep.deadline = min(self._sleep.deadline, due)

    async def run(self) -> None:
        """Make the calls, until cancelled."""
        while True:
            self._sleep = trio.CancelScope(deadline=self._calls[0][0] if self._calls else float("inf"))
            with self._sleep:
                await trio.sleep_forever()
            while self._calls and self._calls[0][0] <= trio.current_time():
                heappop(self._calls)[2]()

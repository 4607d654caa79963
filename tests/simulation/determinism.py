"""The same seed, the same run: the order in which trio runs tasks, its clock, and every choice come from the seed.

Rule 1: no threads, no sockets, no wall clock, nothing iterated over that is ordered by an address or a hash.
Rule 2: who chooses has a source of chance of its own, named after what it chooses: a change in one place then does not
change what all the others draw, and a seed that failed stays the same unlucky day for longer.
"""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from trio.testing import MockClock

# Private to trio, and what its own plugin for Hypothesis sets. test_determinism.py says so when they vanish.
# Private: a test says so when it vanishes.
_SCHEDULER = trio._core._run  # type: ignore[attr-defined]


def chance(seed: int, name: str, *, of: str = "") -> Random:
    """The source of one kind of choice. Seeded with a text, which `Random` hashes alike in each process."""
    return Random(f"{seed}: {of}: {name}" if of else f"{seed}: {name}")


def run_deterministically(seed: int, clock: MockClock, main: Callable[[], Awaitable[None]]) -> None:
    """`trio.run` under this clock, which jumps to whatever is next, the order of tasks drawn from the seed."""
    clock.autojump_threshold = 0
    with scheduled_by(seed):
        trio.run(main, clock=clock)


@contextmanager
def scheduled_by(seed: int) -> Iterator[None]:
    """Have trio shuffle the tasks that are ready by the seed; otherwise it does so as it likes."""
    before = _SCHEDULER._r.getstate(), _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING
    _SCHEDULER._r.seed(seed)
    _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING = True
    try:
        yield
    finally:
        _SCHEDULER._r.setstate(before[0])
        _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING = before[1]


class Livelock(trio.abc.Instrument):
    """Cancels a scope when tasks run on and on while the clock stands still: nothing else would ever end such a run."""

    LIMIT = 20_000

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self._now = -1.0
        self._turns = 0
        self.found = False

    def before_io_wait(self, timeout: float) -> None:
        """Count the turns of the scheduler at one moment. Where it waits, the clock goes on afterwards."""
        now = trio.current_time() if timeout == 0 else -1.0
        self._turns = self._turns + 1 if now == self._now else 0
        self._now = now
        if self._turns > self.LIMIT:
            self.found = True
            self._scope.cancel()


class Stalls:
    """How long the whole program stood still: nobody could do anything then, and nobody was to blame for it."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock
        self._stalls: list[tuple[float, float]] = []

    def stall(self, seconds: float) -> None:
        """Let the time pass at once, and no task run meanwhile."""
        self._stalls.append((trio.current_time(), seconds))
        self._clock.jump(seconds)

    def between(self, began: float, ended: float) -> float:
        """Seconds in which nothing moved, of those between two moments."""
        return sum(seconds for at, seconds in self._stalls if began <= at + seconds and at <= ended)

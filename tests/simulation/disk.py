"""A disk that takes its time, in the task that waits for it and by the simulation's clock.

What is committed takes as long as chance has it, so that a node is stopped, or killed, with more or less that no disk
has yet. The file is thrown away at the end and need survive nothing, so nothing waits for the real disk.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import trio

from trio_extreme.embedded import run_inline
from trio_extreme.embedded.sqlite_storage import SqliteStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - where there is one it is faster

_QUICK = 0.001
"""Seconds that a commit takes at most in the calm."""


class Disk:
    """What `run_sync` of a node is here."""

    def __init__(self, random: Random, calm_at: float) -> None:
        self._random = random
        self._calm_at = calm_at
        self._slowness = random.choice((_QUICK, 0.01, 0.3))

    async def __call__(self, function: Callable[..., Any], /, *args: Any) -> Any:
        if function is SqliteStorage:
            opened = await run_inline(function, *args)
            opened._writer._db.execute("PRAGMA synchronous = OFF")
            return opened
        # Who reads small pages waits as often as others write: that takes its time, and is nobody's fault.
        is_calm = trio.current_time() >= self._calm_at
        await trio.sleep(self._random.uniform(0, _QUICK if is_calm else self._slowness))
        return await run_inline(function, *args)


@contextmanager
def file() -> Iterator[Path]:
    """Where a node's file may be, for the time of a run."""
    with TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as folder:
        yield Path(folder) / "node.db"

"""Putting on the disk what a storage gathers, and what has to wait until it is there.

Rule 1: nothing leaves the node that was said after a write, before that write is on the disk: neither its answer, nor
an event that is pushed, nor what somebody else read of it. So each connection keeps its packages back while `is_done`
is false, heartbeats excepted (`Connection.queue`), and nobody else need know.
Rule 2: commits come one after another. Each takes all that was gathered during the one before, so that a hundred
clients wait for the disk as often as one.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

from trio_extreme.embedded.sqlite_storage import SqliteStorage
from trio_extreme.embedded.storage import MemoryStorage
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable

    from trio_extreme.embedded.line import Line
    from trio_extreme.embedded.storage import Storage, StorageError
    from trio_extreme.embedded.versions import ServerVersion

_Result = TypeVar("_Result")

_MOST_GATHERED = 4 * 1024 * 1024
"""Bytes of the log that may wait for a commit. Whoever writes when there are more waits itself."""
_CLOSING_TIME = 5.0
"""Seconds for the last commit and the closing of the file, where waiting for them can be given up at all."""


SIGNS_OF_LIFE: frozenset[int] = frozenset((Command.HEARTBEAT_REQUEST, Command.HEARTBEAT_RESPONSE))
"""Commands of packages that never wait."""


class RunSync(Protocol):
    """Runs a function that waits for the disk, and returns what it returns; as `trio.to_thread.run_sync` does."""

    async def __call__(self, function: Callable[..., _Result], /, *args: Any) -> _Result:
        """Run it."""
        ...


async def run_inline(function: Callable[..., _Result], /, *args: Any) -> _Result:
    """Run it here and now. Under a mock clock a thread would not do: Trio takes waiting for it for idleness."""
    await trio.lowlevel.checkpoint()
    return function(*args)


def in_a_thread() -> RunSync:
    """Run it in a thread, one function at a time, however many threads the program has otherwise."""
    return partial(trio.to_thread.run_sync, limiter=trio.CapacityLimiter(1))


@asynccontextmanager
async def open_storage(
    path: str | os.PathLike[str] | None, version: ServerVersion, run_sync: RunSync
) -> AsyncIterator[Storage]:
    """Memory, where there is no path. What was not committed when the block is left, is then.

    Raises `StorageError` where the file cannot be used.
    """
    if path is None:
        yield MemoryStorage()
        return
    storage = await run_sync(SqliteStorage, Path(path), version)
    try:
        yield storage
    finally:
        with trio.move_on_after(_CLOSING_TIME, shield=True):
            await run_sync(storage.close)


class MakeCommits(Protocol):
    """Makes the `Commits` of a node; the arguments are those of that class."""

    def __call__(self, storage: Storage, run_sync: RunSync, line: Line, passed: Callable[[], None], /) -> Commits:
        """Make them."""
        ...


class Commits:
    """The commits of one storage. One that keeps nothing on a disk has none: all is always done.

    `passed` is called when one is done.
    """

    #: Commands of packages that depend on nothing that was written.
    passing = SIGNS_OF_LIFE

    def __init__(self, storage: Storage, run_sync: RunSync, line: Line, passed: Callable[[], None]) -> None:
        self._storage = storage if isinstance(storage, SqliteStorage) else None
        self._run_sync = run_sync
        self._line = line
        self._passed = passed
        self._failure: StorageError | None = None
        self._idle = trio.lowlevel.ParkingLot()
        self._waiting = trio.lowlevel.ParkingLot()
        if self._storage is not None:
            self._storage.changed = self._wake

    def __repr__(self) -> str:
        return f"<Commits: {self.written - self.durable} to come>"

    @property
    def are_needed(self) -> bool:
        """Whether there is a file."""
        return self._storage is not None

    @property
    def written(self) -> int:
        """How many changes were made."""
        return 0 if self._storage is None else self._storage.written

    @property
    def durable(self) -> int:
        """How many of them a crash leaves."""
        return 0 if self._storage is None else self._storage.durable

    @property
    def is_done(self) -> bool:
        """Whether a crash would leave everything."""
        return self._storage is None or self._storage.written == self._storage.durable

    @property
    def is_crowded(self) -> bool:
        """Whether so much waits for a commit that nobody should write any more."""
        return self._storage is not None and self._storage.gathered > _MOST_GATHERED

    async def run(self) -> None:
        """Commit what is there, until cancelled. Raises `StorageError` once the file fails: nothing can go on then."""
        while True:
            # A process that is stopped commits nothing.
            await self._line.go_on()
            if self._failure is not None:
                raise self._failure
            if self._storage is None or self.is_done:
                await self._idle.park()
            else:
                await self._commit(self._storage)

    def fail(self, error: StorageError) -> None:
        """The file failed somebody who read: the node ends."""
        self._failure = self._failure or error
        self._wake()

    def _wake(self) -> None:
        self._idle.unpark_all()

    async def pass_by(self) -> None:
        """Wait until everything is on the disk that was written before."""
        await trio.lowlevel.checkpoint()
        written = self.written
        while self.durable < written:
            await self._waiting.park()

    async def _commit(self, storage: SqliteStorage) -> None:
        group = storage.take()
        await self._run_sync(storage.commit, group)
        storage.settle(group)
        self._passed()
        self._waiting.unpark_all()

"""Listeners in tests: handlers that keep what they saw, and listeners that run beside a test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from trio_extreme import STOP, Listener, MemoryCheckpoints

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio_extreme import Connection, Event


class Seen:
    """A handler that keeps the places of what it was given."""

    def __init__(self, *, seconds: Callable[[Event], float] = lambda event: 0, stop_at: object = None) -> None:
        self.places: list[Any] = []
        self._seconds = seconds
        self._moved = trio.lowlevel.ParkingLot()
        self.stop_at = stop_at
        #: The checkpoints that are not handled: each time they are given, one of these errors is raised.
        self.errors: dict[Any, list[Exception]] = {}

    async def __call__(self, event: Event, *_: object) -> object:
        errors = self.errors.get(event.checkpoint)
        if errors:
            raise errors.pop(0)
        await trio.sleep(self._seconds(event))
        if event.checkpoint == self.stop_at:
            return STOP
        self.places.append(event.checkpoint)
        self._moved.unpark_all()
        return None

    async def come_to(self, count: int) -> list[Any]:
        """All there are, once there are so many."""
        with trio.fail_after(100):  # noqa: ASYNC912 - it waits where there are too few
            while len(self.places) < count:
                await self._moved.park()
        return self.places


@asynccontextmanager
async def running(listener: Any) -> AsyncIterator[trio.Nursery]:
    """A listener that runs while the block does."""
    async with trio.open_nursery() as nursery:
        with trio.fail_after(1000):  # noqa: ASYNC100 - the test waits
            await nursery.start(listener.run)
            yield nursery
        nursery.cancel_scope.cancel()


def listen(conn: Connection, handle: Any, stream: str = "people", **options: Any) -> Listener:
    """A listener that remembers nothing, unless it is told."""
    options.setdefault("checkpoints", MemoryCheckpoints())
    return Listener(conn, stream, handle, **options)

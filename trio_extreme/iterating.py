"""Handing out one by one what comes in lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import trio
from trio.lowlevel import checkpoint, checkpoint_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

RUN = 64
"""Items handed out before the clock is looked at."""

TURN = 0.005
"""Seconds of a loop that never waits, after which other tasks get their turn.

Turns by count alone would lose live events: at each of them the socket brings several hundred more.
"""


class ListIterator(ABC, Generic[T]):
    """An async iterator over what `_take` brings in lists; one task at a time.

    Cancellation is noticed before each item, and loses none. Other tasks get their turn whenever a list is fetched, and
    after `TURN` seconds of a loop whose body never waits.
    """

    __slots__ = ("_at", "_busy", "_items", "_list", "_turn_ends")

    def __init__(self) -> None:
        self._list: Sequence[T] = ()
        self._at = 0
        self._items: Iterator[T] = iter(())
        self._busy = False
        self._turn_ends = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        await checkpoint_if_cancelled()
        for item in self._items:
            return item
        if self._at >= len(self._list):
            await self._wait(fetch=True)
        elif trio.current_time() > self._turn_ends:
            await self._wait(fetch=False)
        self._items = iter(self._list[self._at : self._at + RUN])
        self._at += RUN
        return next(self._items)

    async def next_list(self) -> Sequence[T]:
        """What is left of the list under way, or else the next list."""
        self._refuse_second_task()
        rest: Sequence[T] = [*self._items, *self._list[self._at :]]
        if rest:
            # Still here to be handed out, should this be cancelled.
            self._items = iter(rest)
            self._at = len(self._list)
            await self._wait(fetch=False)
            rest = list(self._items)
        if not rest:
            await self._wait(fetch=True)
            rest = self._list
            self._at = len(rest)
        return rest  # noqa: ASYNC910 - one of the two was waited for

    async def _wait(self, *, fetch: bool) -> None:
        """Get the next list, or only give others their turn. Meanwhile no other task may go on here."""
        self._refuse_second_task()
        self._busy = True
        try:
            if fetch:
                self._list = await self._take()
                self._at = 0
            else:
                await checkpoint()
            self._turn_ends = trio.current_time() + TURN
        finally:
            self._busy = False

    def _refuse_second_task(self) -> None:
        if self._busy:
            msg = "another task is waiting for this iterator's next event; one at a time"
            raise trio.BusyResourceError(msg)

    @abstractmethod
    async def _take(self) -> Sequence[T]:
        """The next list, which is not empty. Raises StopAsyncIteration at the end. Always a checkpoint."""


class HasLists(Protocol[T_co]):
    """What gives lists."""

    async def next_list(self) -> Sequence[T_co]:
        """The next list, which is not empty."""
        ...


class Batches(Generic[T]):
    """An async iterator over whole lists, for work in bulk: a checkpoint a list, none an item."""

    __slots__ = ("_source",)

    def __init__(self, source: HasLists[T]) -> None:
        self._source = source

    def __aiter__(self) -> Batches[T]:
        return self

    async def __anext__(self) -> Sequence[T]:
        return await self._source.next_list()

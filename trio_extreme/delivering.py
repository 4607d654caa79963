"""How events get from a subscription to a handler: one by one, in batches, or several at a time."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from trio_extreme.errors import CheckpointError, InvalidArgument
from trio_extreme.handling import STOP, Handlers, Park, Retry, Stop
from trio_extreme.iterating import RUN, TURN
from trio_extreme.progress import Window
from trio_extreme.sqlite_checkpoints import SqliteCheckpoints
from trio_extreme.tasks import open_plain_nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Sequence

    from trio_extreme.checkpoints import Checkpoints
    from trio_extreme.events import Event
    from trio_extreme.handling import Handler, OnError
    from trio_extreme.progress import Progress, Ticket
    from trio_extreme.values import Position

    Call: TypeAlias = Callable[[Any], Awaitable[object]]

logger = logging.getLogger("trio_extreme.listeners")

MOST_TASKS = 10_000

ROOM = 4
"""Events that may wait for each of the tasks that handle them."""


class Brake:
    """What interrupts a listener between two events, and where it only waits."""

    def __init__(self) -> None:
        self.pulled = False
        #: Nothing more is handled, not even what was taken.
        self.stopped = False
        self._scopes: set[trio.CancelScope] = set()

    def pull(self) -> None:
        """Handle what was begun, and then come to rest."""
        self.pulled = True
        for scope in self._scopes:
            scope.cancel()

    def stop(self) -> None:
        """For good."""
        self.stopped = True
        self.pull()

    def release(self) -> None:
        """Go on, unless it is for good."""
        self.pulled = self.stopped

    @contextmanager
    def waiting(self, deadline: float = inf) -> Iterator[trio.CancelScope]:
        """What is done in this block can be interrupted."""
        with trio.CancelScope(deadline=deadline) as scope:
            self._scopes.add(scope)
            try:
                if self.pulled:
                    scope.cancel()
                yield scope
            finally:
                self._scopes.discard(scope)


class Attempts:
    """Calls a handler, and does what is to be done where it fails."""

    def __init__(
        self,
        call: Call,
        on_error: OnError,
        brake: Brake,
        progress: Progress,
        park: Callable[[str, Event, Exception], Awaitable[bool]],
    ) -> None:
        self.brake = brake
        self.progress = progress
        self.last_error: Exception | None = None
        self._call = call
        self._retry = on_error if isinstance(on_error, Retry) else None
        self._then = on_error.then if isinstance(on_error, Retry) else on_error
        self._park = park

    async def handle(self, given: Any) -> bool:  # noqa: ASYNC910 - a handler's business; others get their turn elsewhere
        """Whether it was handled, or is to count as handled. If not, nothing behind it is to be."""
        try:
            outcome = await self._call(given)
        except CheckpointError:
            # Of the store, which has not kept the event: no handler has failed.
            raise
        except Exception as error:  # noqa: BLE001 - it is the user's, and raised again if nothing else is wanted
            return await self._recover(given, error)
        return self._is_handled(outcome)  # noqa: ASYNC910 - as above

    async def _recover(self, given: Any, error: Exception) -> bool:
        """What its handler raised was this."""
        for attempt in range(self._retry.times if self._retry else 0):
            assert self._retry is not None
            self.last_error = error
            with self.brake.waiting():
                await trio.sleep(self._retry.delay(attempt))
            if self.brake.pulled:
                return False
            try:
                outcome = await self._call(given)
            except CheckpointError:
                raise
            except Exception as again:  # noqa: BLE001 - as above
                error = again
            else:
                return self._is_handled(outcome)
        self.last_error = error
        return await self._give_up(given, error)

    def _is_handled(self, outcome: object) -> bool:
        if outcome is STOP:
            self.brake.stop()
        return outcome is not STOP

    async def _give_up(self, given: Any, error: Exception) -> bool:
        """It is not to be called again."""
        if self._then is None:
            raise error
        if isinstance(self._then, Stop):
            self._log("ends at", given, error)
            self.brake.stop()
            await trio.lowlevel.checkpoint()
            return False
        if isinstance(given, list) and len(given) > 1:
            return await self._singly(given)
        event = given[0] if isinstance(given, list) else given
        if isinstance(self._then, Park):
            if not await self._park(self._then.stream, event, error):
                return False
            self._log(f"parked in {self._then.stream!r}", event, error)
        else:
            await trio.lowlevel.checkpoint()
            self._log("skipped", event, error)
        return True

    def _log(self, did: str, given: Any, error: Exception) -> None:
        """Without the error's text, which may quote the event's data; `status` has the error."""
        what = f"{given[0]!r} and {len(given) - 1} more" if isinstance(given, list) else repr(given)
        logger.error("listener %r %s %s, whose handler raised %s", self.progress.name, did, what, type(error).__name__)

    async def _singly(self, batch: list[Event]) -> bool:  # noqa: ASYNC910 - there are at least two
        """One of them makes all of the batch fail: find it."""
        for event in batch:
            if not await self.handle([event]):
                return False  # noqa: ASYNC910 - as above
            if self.progress.move(event.checkpoint, 0):
                await self.progress.keep()
        return True  # noqa: ASYNC910 - as above


class Delivery(ABC):
    """Gives events to the handler, and moves the progress behind what was handled."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._brake = attempts.brake
        self._progress = attempts.progress
        self._turn_ends = 0.0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """What it needs while it delivers."""
        yield

    @abstractmethod
    async def deliver(self, events: Sequence[Event]) -> None:
        """Take these. Where the brake is pulled meanwhile, the rest of them is left."""

    async def settle(self) -> None:
        """Wait until all that was taken and is still to be handled was."""
        await trio.lowlevel.checkpoint()

    async def pass_by(self, place: Position) -> None:
        """There is nothing to be handled up to here."""
        self._progress.move(place, 0)
        await self._progress.keep()

    @property
    def tasks(self) -> set[trio.lowlevel.Task]:
        """Those that handlers run in, beside the listener's own."""
        return set()

    async def _give_turn(self) -> None:
        """Be cancelled here at the latest, and let others go on where this one has not waited for long."""
        if trio.current_time() > self._turn_ends:
            await trio.lowlevel.checkpoint()
            self._turn_ends = trio.current_time() + TURN
        else:
            await trio.lowlevel.checkpoint_if_cancelled()


class OneByOne(Delivery):
    """Each event by itself, in order."""

    async def deliver(self, events: Sequence[Event]) -> None:  # noqa: ASYNC910 - there are some
        """Handle these."""
        handle, move = self._attempts.handle, self._progress.move
        for start in range(0, len(events), RUN):
            for event in events[start : start + RUN]:
                await trio.lowlevel.checkpoint_if_cancelled()
                if self._brake.pulled or not await handle(event):
                    return
                if move(event.checkpoint):
                    await self._progress.keep()
            await self._give_turn()


class InBatches(Delivery):
    """Lists of at most so many events, as they came, in order."""

    def __init__(self, attempts: Attempts, size: int) -> None:
        super().__init__(attempts)
        self._size = size

    async def deliver(self, events: Sequence[Event]) -> None:  # noqa: ASYNC910 - there are some
        """Handle these."""
        for start in range(0, len(events), self._size):
            await self._give_turn()
            batch = list(events[start : start + self._size])
            if self._brake.pulled or not await self._attempts.handle(batch):
                return
            if self._progress.move(batch[-1].checkpoint, len(batch)):
                await self._progress.keep()


class ByKey(Delivery):
    """Several events at a time, by as many tasks; those of one key one after the other, in order.

    What is stored is the place up to which all was handled, so after a crash some come again that were.
    """

    def __init__(self, attempts: Attempts, workers: int, key: Callable[[Any], Hashable] | None) -> None:
        super().__init__(attempts)
        self._workers = workers
        self._key = key
        self._tasks: set[trio.lowlevel.Task] = set()
        self._clear()

    def _clear(self) -> None:
        self._window = Window()
        # What waits for a key's turn or is being handled; and the keys whose first one nobody has taken.
        self._lanes: dict[Hashable, deque[tuple[Event, Ticket]]] = {}
        self._ready: deque[Hashable] = deque()
        self._busy = 0
        self._work = trio.lowlevel.ParkingLot()
        self._moved = trio.lowlevel.ParkingLot()

    @property
    def tasks(self) -> set[trio.lowlevel.Task]:
        """Those that handlers run in."""
        return self._tasks

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The tasks."""
        self._clear()
        async with open_plain_nursery() as nursery:
            for _ in range(self._workers):
                nursery.start_soon(self._run)
            yield
            nursery.cancel_scope.cancel()

    async def deliver(self, events: Sequence[Event]) -> None:
        """Hand these to the tasks, as far as there is room."""
        await self._give_turn()
        for event in events:
            while len(self._window) >= self._workers * ROOM and not self._brake.pulled:
                await self._moved.park()
            if self._brake.pulled:
                return
            self._enter(event)

    def _enter(self, event: Event) -> None:
        ticket = self._window.enter(event.checkpoint)
        # Without keys each event goes its own way.
        key = ticket if self._key is None else self._key(event)
        lane = self._lanes.setdefault(key, deque())
        lane.append((event, ticket))
        if len(lane) == 1:
            self._ready.append(key)
            self._work.unpark()

    async def settle(self) -> None:
        """Wait until no task has anything to do."""
        await trio.lowlevel.checkpoint()
        while self._busy or (self._ready and not self._brake.stopped):
            await self._moved.park()

    async def pass_by(self, place: Position) -> None:
        """What comes before it may still be under way; then it is passed when that is done."""
        if self._window.finish(self._window.enter(place, events=0)) is not None:
            await super().pass_by(place)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()

    async def _run(self) -> None:
        self._tasks.add(trio.lowlevel.current_task())
        try:
            while True:
                while not self._ready or self._brake.stopped:
                    await self._work.park()
                key = self._ready.popleft()
                self._busy += 1
                await self._give_turn()
                await self._take(key)
                self._busy -= 1
                self._moved.unpark_all()
        finally:
            self._tasks.discard(trio.lowlevel.current_task())

    async def _take(self, key: Hashable) -> None:
        """The next event of a key. Where it was not handled, its lane stays as it is, and nobody takes from it."""
        lane = self._lanes[key]
        event, ticket = lane[0]
        if not await self._attempts.handle(event):
            return  # noqa: ASYNC910 - whoever calls it gives others their turn
        lane.popleft()
        if lane:
            self._ready.append(key)
            self._work.unpark()
        else:
            del self._lanes[key]
        await self._finish(ticket)

    async def _finish(self, ticket: Ticket) -> None:
        passed = self._window.finish(ticket)
        if passed is not None and self._progress.move(*passed):
            await self._progress.keep()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()


def delivery_of(
    attempts: Attempts, batch: int | None, concurrency: int, key: Callable[[Any], Hashable] | None
) -> Delivery:
    """What delivers in this way."""
    if concurrency > 1:
        return ByKey(attempts, concurrency, key)
    return OneByOne(attempts) if batch is None else InBatches(attempts, batch)


def check_ways(
    checkpoints: Checkpoints,
    handle: Handler,
    *,
    batch: int | None,
    concurrency: int,
    key: Callable[[Any], Hashable] | None,
    events: int,
    seconds: float,
) -> None:
    """What cannot be had together."""
    for argument, value in (("batch", batch), ("concurrency", concurrency), ("checkpoint_events", events)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            msg = f"{argument}: {value!r} is no number of events; give 1 or more"
            raise InvalidArgument(msg)
    if not seconds > 0:
        msg = f"checkpoint_seconds: {seconds!r} is no time; give more than 0 seconds"
        raise InvalidArgument(msg)
    problem = None
    if isinstance(checkpoints, SqliteCheckpoints) and (concurrency, events, seconds) != (1, 1, inf):
        problem = "concurrency: SqliteCheckpoints commits each event with its checkpoint, in order; batch= is faster"
    elif concurrency > MOST_TASKS:
        problem = f"concurrency: {concurrency:,} tasks are too many; {MOST_TASKS:,} at most"
    elif concurrency > 1 and batch is not None:
        problem = f"batch: {batch} at a time, in order, and concurrency={concurrency}: take one of the two"
    elif concurrency == 1 and key is not None:
        problem = "key: with concurrency=1 all events are handled in order; say how many at a time"
    elif batch is not None and isinstance(handle, Handlers):
        problem = "batch: Handlers take one event at a time; give a coroutine function that takes a list"
    if problem is not None:
        raise InvalidArgument(problem)

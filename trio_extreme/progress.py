"""How far a listener has come, how much of that is stored, and what can be told of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING

import trio

from trio_extreme.checkpoints import NOWHERE, place_in, text_of
from trio_extreme.errors import DropReason, SubscriptionDropped

if TYPE_CHECKING:
    from trio_extreme.checkpoints import Checkpoints
    from trio_extreme.values import Position

_RATE_SECONDS = 10.0
_RATE_STEP = 1.0


class ListenerState(Enum):
    """What a listener is doing."""

    #: It does not run: not yet, or not any more.
    STOPPED = "stopped"
    #: It runs, and handles nothing until it is resumed.
    PAUSED = "paused"
    #: A patch is run, and it waits for that.
    PATCHING = "patching"
    #: It handles what is stored.
    CATCHING_UP = "catching up"
    #: It has handled what was stored, and handles what is written.
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """A listener at one moment.

    `place` is that of the last event that was handled, None where there is none; `end` that of the stream's last event
    and `lag_events` how many numbers lie between, both None where nobody has told: before anything came, and in the
    log, whose positions are no numbers. `lag_seconds` is how old the last event is that was taken, 0 where there are no
    more, None before there was one. `handled` counts since the listener was made, `per_second` is of the last ten
    seconds. `last_error` is what a handler raised last.
    """

    state: ListenerState
    place: int | Position | None
    end: int | None
    lag_events: int | None
    lag_seconds: float | None
    last_error: Exception | None
    handled: int
    per_second: float


class Progress:
    """Where a listener is in its stream; stored after so many events, or so many seconds after the first of them."""

    def __init__(self, checkpoints: Checkpoints, name: str, stream: str, events: int, seconds: float) -> None:
        self.name = name
        self.stream = stream
        #: Behind which it goes on; None where nobody has said.
        self.place: int | Position | None = None
        #: How many events were handled since the beginning.
        self.handled = 0
        #: When what is not stored must be.
        self.deadline = inf
        #: In which the listener waits for events: left at that time, whoever says so meanwhile.
        self.waiting = trio.CancelScope()
        self._checkpoints = checkpoints
        self._most = events
        self._seconds = seconds
        self._unstored = 0
        self._stored: int | Position | None = None
        # Of concurrent handlers.
        self._storing = False
        self._turns = trio.lowlevel.ParkingLot()
        self._waiting: list[tuple[int | Position, trio.Event]] = []
        self._over = False

    @property
    def last(self) -> int | Position | None:
        """The place of what was handled last, None where nothing was."""
        return None if self.place == NOWHERE else self.place

    async def load(self) -> bool:
        """Begin where it was left; False where it never was."""
        self._unstored = 0
        self._be_due(inf)
        text = await self._checkpoints.load(self.name)
        if text is None:
            self.place = self._stored = None
            return False
        where = f"checkpoint {self.name!r} of {self._checkpoints}"
        self._stored = place_in(text, self.stream, where)
        self.begin_behind(self._stored)
        return True

    def begin_behind(self, place: int | Position) -> None:
        """All up to here counts as handled, though not in this run. Who has waited for it already is told."""
        self.place = place
        self._wake()

    def move(self, place: int | Position, events: int = 1) -> bool:
        """All up to here was handled, so many more events. True where that is to be stored now."""
        self.place = place
        self.handled += events
        if not self._unstored and self._seconds < inf:
            self._be_due(trio.current_time() + self._seconds)
        self._unstored += events
        if self._waiting:
            self._wake()
        return self._unstored >= self._most or (self.deadline < inf and trio.current_time() >= self.deadline)

    def is_stored(self, place: int | Position) -> None:
        """What was handled, or is about to count as handled, was stored together with what it changed."""
        self._stored = place

    async def keep(self) -> None:
        """Store it, if it is not."""
        # A trio.Lock would cost more than to store in memory.
        if self._storing:
            await self._turns.park()
        self._storing = True
        try:
            place, unstored, began = self.place, self._unstored, trio.current_time()
            if place is not None and place != self._stored:
                await self._checkpoints.store(self.name, text_of(place, self.stream))
                self._stored = place
            else:
                await trio.lowlevel.checkpoint()
            self._unstored -= unstored
            if self.deadline < inf:
                # What was handled meanwhile was not before it began.
                self._be_due(began + self._seconds if self._unstored else inf)
        finally:
            # Whoever is unparked has the turn at once, and nobody gets in before.
            if self._turns:
                self._turns.unpark()
            else:
                self._storing = False

    async def reached(self, place: int | Position) -> None:
        """Wait until all up to here was handled. Raises `SubscriptionDropped` where the listener ends before."""
        if self._is_behind(place) and not self._over:
            waiting = (place, trio.Event())
            self._waiting.append(waiting)
            try:
                await waiting[1].wait()
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
        else:
            await trio.lowlevel.checkpoint()
        if self._is_behind(place):
            msg = f"listener {self.name!r} ended before it came to {place}"
            raise SubscriptionDropped(msg, DropReason.LEFT)

    def begin(self) -> None:
        """It goes on."""
        self._over = False

    def end(self) -> None:
        """It goes on no further; whoever waits for that is told."""
        self._over = True
        self._wake()

    def _be_due(self, deadline: float) -> None:
        if deadline != self.deadline:
            self.deadline = self.waiting.deadline = deadline

    def _wake(self) -> None:
        for waiting in self._waiting[:]:
            if self._over or not self._is_behind(waiting[0]):
                self._waiting.remove(waiting)
                waiting[1].set()

    def _is_behind(self, place: int | Position) -> bool:
        # Both are numbers, or both are positions.
        return self.place is None or self.place < place


class Ticket:
    """An event that was taken and not handled yet."""

    __slots__ = ("done", "events", "place")

    def __init__(self, place: int | Position, events: int) -> None:
        self.place = place
        #: 1; 0 for a place that is no event's.
        self.events = events
        self.done = False


class Window:
    """Events that are handled at the same time, in the order in which they came."""

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()

    def __len__(self) -> int:
        return len(self._tickets)

    def enter(self, place: int | Position, events: int = 1) -> Ticket:
        """An event that is to be handled, or a place that is to be passed."""
        ticket = Ticket(place, events)
        self._tickets.append(ticket)
        return ticket

    def finish(self, ticket: Ticket) -> tuple[int | Position, int] | None:
        """It was handled. The place up to which now all is, and how many more events; None where that is no other."""
        ticket.done = True
        passed: Ticket | None = None
        count = 0
        while self._tickets and self._tickets[0].done:
            passed = self._tickets.popleft()
            count += passed.events
        return None if passed is None else (passed.place, count)


class Rate:
    """How many events a second were handled lately."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, count: int) -> None:
        """So many were handled in all."""
        now = trio.current_time()
        if self._samples and now - self._samples[-1][0] < _RATE_STEP:
            return
        self._samples.append((now, count))
        while now - self._samples[0][0] > _RATE_SECONDS:
            self._samples.popleft()

    def per_second(self, count: int) -> float:
        """Over the last ten seconds, now that so many were handled in all."""
        now = trio.current_time()
        began, before = next(
            ((time, handled) for time, handled in self._samples if now - time <= _RATE_SECONDS), (now, count)
        )
        return (count - before) / (now - began) if now > began else 0.0

"""Workloads that consume: what they saw, in order, with what they were told in between.

They run until they are stopped, and judge nothing. `checker` does.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import trio

from tests.simulation.client import BAD_LUCK
from tests.simulation.ledger import in_words
from tests.simulation.truth import Truth
from tests.simulation.workloads import Workload
from trio_extreme import DropReason, Event, StreamDeleted, SubscriptionDropped, TrioExtremeError
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from typing import Any

    from tests.simulation.truth import Fact, Place
    from tests.simulation.workloads import Stage
    from trio_extreme.notices import Notice


class Seen(NamedTuple):
    """An event that was handed out."""

    time: float
    place: Place
    id: bytes


class Heard(NamedTuple):
    """A notice, or None: from here on it is another subscription that goes on where the last one ended."""

    time: float
    notice: Notice | None


@dataclass
class Period:
    """One subscription, or several that continue each other."""

    #: Nothing before the one may be seen; everything from the other on must be.
    first_allowed: Place
    first_wanted: Place
    history: list[Seen | Heard] = field(default_factory=list)
    #: What ended it, but for being stopped.
    error: TrioExtremeError | None = None

    @property
    def seen(self) -> list[Seen]:
        """The events alone."""
        return [entry for entry in self.history if isinstance(entry, Seen)]


class Enough(Exception):
    """A consumer leaves its subscription, to go on with another."""


class Consumer(Workload):
    """Follows a stream, or the log, at a pace of its own."""

    def __init__(self, stage: Stage, source: str) -> None:
        super().__init__(stage, source)
        self.truth = Truth(stage.store)
        self.periods: list[Period] = []
        #: What was missing when the last fault was over.
        self.due: list[Place] = []
        self._is_over = False
        #: When it was busy with an event, and for how long.
        self._busy: list[tuple[float, float]] = []
        self._pace = self.random.choice((0.0, 0.0, 0.0, 0.01, 0.1, 0.4))
        self._naps = self.random.choice((0.0, 0.0, 0.02))
        self.style = self.random.choice(("notices", "notices", "events", "batches"))

    #: Whether the subscription may be dropped because it is too slow.
    may_overflow = False

    @property
    def hears(self) -> bool:
        """Whether it asks for notices."""
        return self.style == "notices"

    async def run(self) -> None:
        await self.pause()
        while not self._is_over:
            await self._subscribe()

    async def _subscribe(self) -> None:
        """One subscription, from its beginning to its end."""
        inside = False
        try:
            async with self.open() as events:
                inside = True
                self.entered()
                await self.follow(events)
        except Enough:
            self.note("has enough of it")
        except StreamDeleted as error:
            if not self.truth.is_buried(self.stream):
                self.client.trace.problem(f"{self!r} ended with {in_words(error)}, which is not true")
            self._is_over = True
            if self.periods:
                self.periods[-1].error = error
        except TrioExtremeError as error:
            self._ended(error, inside=inside)
            await trio.sleep(0.5)

    def _ended(self, error: TrioExtremeError, *, inside: bool) -> None:
        """Entering may fail for want of luck, where it asks the server. Being inside may not."""
        self.note(f"ended with {in_words(error)}")
        if isinstance(error, SubscriptionDropped) and error.reason is DropReason.OVERFLOW and self.may_overflow:
            self.periods[-1].error = error
        elif inside or not isinstance(error, BAD_LUCK):
            self.client.trace.problem(f"{self!r} ended with {in_words(error)}")

    @abstractmethod
    def open(self) -> Any:
        """A new subscription, not entered yet."""

    @abstractmethod
    def entered(self) -> None:
        """Its block was entered."""

    @abstractmethod
    def missing(self, period: Period) -> list[Place]:
        """What it should have seen by now, and has not."""

    def busy(self, start: float, end: float) -> float:
        """Seconds between these moments in which it was busy with events, and did not ask for more."""
        return sum(seconds for began, seconds in self._busy if start <= began + seconds and began <= end)

    def facts(self) -> list[Fact]:
        """What there is for it to see, at this moment."""
        return self.truth.facts(self.stream)

    def wanted(self, period: Period) -> list[Fact]:
        """What of it has not been seen."""
        seen = {entry.place for entry in period.history if isinstance(entry, Seen)}
        facts = self.facts()
        if isinstance(period.error, StreamDeleted):
            # Who reads on once the stream is gone finds nothing more.
            last = period.seen[-1].place if period.seen else None
            facts = [fact for fact in facts if last is not None and fact.place <= last]
        return [fact for fact in facts if fact.place >= period.first_wanted and fact.place not in seen]

    def is_behind(self, *, at_the_end: bool) -> bool:
        """Whether something is still to come, if all is well; at the end that is the last event."""
        if self.truth.is_buried(self.stream):
            return self.is_mourning
        return not self.periods or self.is_waiting(self.periods[-1], at_the_end=at_the_end)

    @abstractmethod
    def is_waiting(self, period: Period, *, at_the_end: bool) -> bool:
        """Whether something of this period must still come."""

    @property
    def is_mourning(self) -> bool:
        """Whether its stream was deleted for ever, and it is still to be told."""
        return False

    def note_due(self) -> None:
        """From now on nothing breaks: what is missing now must come in time."""
        self.due = self.missing(self.periods[-1]) if self.periods else []

    def note(self, what: str) -> None:
        """Put it into the trace."""
        self.client.trace.note(self.client.name, f"{self!r}: {what}")

    async def follow(self, events: Any) -> None:
        """Take what comes until this is cancelled, or the subscription's own error."""
        items = {"notices": events.with_notices, "events": events.__aiter__, "batches": events.batches}[self.style]()
        while True:
            with self.impatience():
                self._take(await anext(items))
            await self.work()

    def _take(self, item: Any) -> None:
        history = self.periods[-1].history
        for one in [item] if self.style != "batches" else item:
            if isinstance(one, Event):
                stored = one.link or one
                history.append(Seen(trio.current_time(), one.checkpoint, stored.id.bytes_le))
            else:
                history.append(Heard(trio.current_time(), one))
                self.note(in_words(one))

    async def work(self) -> None:
        """Be busy with what was taken."""
        seconds = self._pace
        if self._naps and self.random.random() < self._naps and not self.is_calm:
            seconds += self.random.uniform(0, 8)
        if seconds:
            self._busy.append((trio.current_time(), seconds))
            await trio.sleep(seconds)

    def grant(self, events: int, size: int) -> None:
        """Say how much the subscription may hold."""
        self.client.grant("" if self.stream == ALL else self.stream, events, size)

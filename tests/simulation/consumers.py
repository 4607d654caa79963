"""Workloads that consume: what they saw, in order, with what they were told in between.

They run until they are stopped, and judge nothing. `checker` does.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import trio

from tests.simulation.client import BAD_LUCK
from tests.simulation.ledger import in_words
from tests.simulation.truth import Truth
from tests.simulation.workloads import Workload
from trio_extreme import END, START, Event, Position, StreamDeleted, SubscriptionDropped
from trio_extreme.notices import Reconnected
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from typing import Any

    from tests.simulation.truth import Fact, Place
    from tests.simulation.workloads import Stage
    from trio_extreme import TrioExtremeError
    from trio_extreme.notices import Notice
    from trio_extreme.subscriptions import CatchUpSubscription, LiveSubscription


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


class Consumer(Workload):
    """Follows a stream, or the log, at a pace of its own."""

    def __init__(self, stage: Stage, source: str) -> None:
        super().__init__(stage, source)
        self.truth = Truth(stage.store)
        self.periods: list[Period] = []
        #: What was missing when the last fault was over.
        self.due: list[Place] = []
        #: When it was busy with an event, and for how long.
        self._busy: list[tuple[float, float]] = []
        self._pace = self.random.choice((0.0, 0.0, 0.0, 0.01, 0.1, 0.4))
        self._naps = self.random.choice((0.0, 0.0, 0.02))
        self._style = self.random.choice(("notices", "notices", "events", "batches"))

    @property
    def is_slow(self) -> bool:
        """Whether it takes its time."""
        return self._pace > 0 or self._naps > 0

    @property
    def hears(self) -> bool:
        """Whether it asks for notices."""
        return self._style == "notices"

    def busy(self, start: float, end: float) -> float:
        """Seconds between these moments in which it was busy with events, and did not ask for more."""
        return sum(seconds for began, seconds in self._busy if start <= began + seconds and began <= end)

    @abstractmethod
    def missing(self, period: Period) -> list[Place]:
        """What it should have seen by now, and has not."""

    def wanted(self, period: Period) -> list[Fact]:
        """What there is for it to see, and has not been seen."""
        seen = {entry.place for entry in period.history if isinstance(entry, Seen)}
        facts = self.truth.facts(self.stream)
        if isinstance(period.error, StreamDeleted):
            # Who reads on once the stream is gone finds nothing more.
            last = period.seen[-1].place if period.seen else None
            facts = [fact for fact in facts if last is not None and fact.place <= last]
        return [fact for fact in facts if fact.place >= period.first_wanted and fact.place not in seen]

    def is_behind(self) -> bool:
        """Whether it has not seen yet what it should have."""
        if self.truth.is_buried(self.stream):
            return self.is_mourning
        return not self.periods or bool(self.missing(self.periods[-1]))

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
        items = {"notices": events.with_notices, "events": events.__aiter__, "batches": events.batches}[self._style]()
        while True:
            with self.impatience():
                self._take(await anext(items))
            await self.work()

    def _take(self, item: Any) -> None:
        history = self.periods[-1].history
        for one in [item] if self._style != "batches" else item:
            if isinstance(one, Event):
                id = one.link.id.bytes_le if one.link is not None else one.id.bytes_le
                history.append(Seen(trio.current_time(), one.checkpoint, id))
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
        source = "" if self.stream == ALL else self.stream
        most = self.client.bounds.get(source, (0, 0))
        self.client.bounds[source] = max(most[0], events), max(most[1], size)


class CatchUp(Consumer):
    """Everything from a place on. Some leave the subscription now and then, and go on after their last checkpoint."""

    def __init__(self, stage: Stage, source: str) -> None:
        super().__init__(stage, source)
        self._restlessness = self.random.choice((0.0, 0.0, 0.02))
        self.grant(self.client.settings.buffer_events, self.client.settings.buffer_bytes)

    def missing(self, period: Period) -> list[Place]:
        """What could be read at all times. What was hidden at some time may have been missed."""
        return [fact.place for fact in self.wanted(period) if fact.lasting]

    @property
    def is_mourning(self) -> bool:
        """Whether its stream was deleted for ever, and it is still to be told."""
        return not self.periods or self.periods[-1].error is None

    async def run(self) -> None:
        await self.pause()
        place = self._begin()
        try:
            while True:
                place = await self._subscribe(place)
        except StreamDeleted as error:
            self.note(in_words(error))
            self.periods[-1].error = error

    async def _subscribe(self, place: dict[str, Any]) -> dict[str, Any]:
        """Follow until the consumer has enough of this subscription; where to go on with the next."""
        try:
            async with self._open(place) as events:
                if place.get("start") is END:
                    self.periods[-1].first_wanted = self.truth.next_place(self.stream)
                await self.follow(events)
        except _Enough:
            self.periods[-1].history.append(Heard(trio.current_time(), None))
            return {"after": self.periods[-1].seen[-1].place}
        except BAD_LUCK as error:
            # Only the end of the stream is asked for once, within the time of a call.
            if place.get("start") is not END or self.periods[-1].history:
                self.client.trace.problem(f"{self!r} ended with {in_words(error)}")
            return place
        raise AssertionError

    def _open(self, place: dict[str, Any]) -> CatchUpSubscription:
        self.note(f"subscribes with {place}")
        if self.stream == ALL:
            return self.client.conn.subscribe_all(**place)
        return self.client.conn.subscribe(self.stream, **place)

    def _begin(self) -> dict[str, Any]:
        """Where to start: at what, how it is said, and the first place that may be seen then, and must be."""
        start: Place = Position(0, 0) if self.stream == ALL else 0
        stored = [fact.place for fact in self.truth.facts(self.stream)]
        kind = self.random.choice(("nothing yet", "start", "here", "after", "end"))
        if kind == "nothing yet" or (kind in ("here", "after") and not stored):
            place: dict[str, Any] = {"after": None}
        elif kind == "start":
            place = {"start": START}
        elif kind == "end":
            place, start = {"start": END}, self.truth.next_place(self.stream)
        else:
            at = self.random.choice(stored)
            place = {"start" if kind == "here" else "after": at}
            start = at if kind == "here" else _following(at)
        self.periods.append(Period(start, start))
        return place

    async def work(self) -> None:
        await super().work()
        seen = self.periods[-1].history and isinstance(self.periods[-1].history[-1], Seen)
        if seen and not self.is_calm and self.random.random() < self._restlessness:
            raise _Enough


class Live(Consumer):
    """What is pushed from now on. Dropped because it was too slow, it begins anew."""

    def __init__(self, stage: Stage, source: str) -> None:
        super().__init__(stage, source)
        self.grant(self.client.settings.live_buffer_events, self.client.settings.live_buffer_bytes)

    def missing(self, period: Period) -> list[Place]:
        """What came while it was subscribed, and no possible gap was told of."""
        if not self.hears:
            return []
        return [fact.place for fact in self.wanted(period) if not _is_excused(period, fact.place)]

    async def run(self) -> None:
        await self.pause()
        with suppress(StreamDeleted):
            while True:
                try:
                    await self._subscribe()
                except SubscriptionDropped as error:
                    self.periods[-1].error = error
                except BAD_LUCK as error:
                    self.note(f"could not subscribe: {in_words(error)}")

    async def _subscribe(self) -> None:
        allowed = self.truth.next_place(self.stream)
        async with self._open() as events:
            self.periods.append(Period(allowed, self.truth.next_place(self.stream)))
            try:
                await self.follow(events)
            except BAD_LUCK as error:
                self.client.trace.problem(f"{self!r} ended with {in_words(error)}")
                raise
            except StreamDeleted as error:
                self.periods[-1].error = error
                raise

    def _open(self) -> LiveSubscription[Any]:
        self.note("subscribes")
        conn = self.client.conn
        return conn.subscribe_all_live() if self.stream == ALL else conn.subscribe_live(self.stream)


def _is_excused(period: Period, place: Place) -> bool:
    """Whether a possible gap was told where this event would be, or the subscription had ended."""
    told = False
    for entry in period.history:
        if isinstance(entry, Seen):
            if entry.place > place:
                return told
            told = False
        elif isinstance(entry.notice, Reconnected):
            told |= entry.notice.gap_possible
    return told or period.error is not None


class _Enough(Exception):
    """A consumer leaves its subscription, to go on with another."""


def _following(place: Place) -> Place:
    """The first place after this one."""
    if isinstance(place, Position):
        return Position(place.commit, place.prepare + 1)
    return place + 1

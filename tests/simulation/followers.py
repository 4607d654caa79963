"""The kinds of consumers: those that must see everything, or all that a filter leaves; those that see what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from tests.simulation.consumers import Consumer, Enough, Heard, Period, Seen
from trio_extreme import END, START, Position
from trio_extreme.notices import Checkpoint, Reconnected
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from tests.simulation.choices import Choice
    from tests.simulation.truth import Fact, Place
    from tests.simulation.workloads import Stage


class CatchUp(Consumer):
    """Everything from a place on. Some leave the subscription now and then, and go on after their last checkpoint."""

    def __init__(self, stage: Stage, source: str) -> None:
        super().__init__(stage, source)
        self._restlessness = self.random.choice((0.0, 0.0, 0.02))
        self._place: dict[str, Any] = {}
        #: What it says beside the place.
        self._options: dict[str, Any] = {}
        self.grant(self.client.settings.buffer_events, self.client.settings.buffer_bytes)

    def missing(self, period: Period) -> list[Place]:
        """What could be read at all times. What was hidden at some time may have been missed."""
        return [fact.place for fact in self.wanted(period) if fact.lasting]

    def is_waiting(self, period: Period, *, at_the_end: bool) -> bool:
        """Whether anything is missing, at any time."""
        return bool(self.missing(period))

    @property
    def is_mourning(self) -> bool:
        """Whether its stream was deleted for ever, and it is still to be told."""
        return not self.periods or self.periods[-1].error is None

    def open(self) -> Any:
        self._place = self._go_on() if self.periods else self._begin()
        self.note(f"subscribes with {self._place}")
        conn, options = self.client.conn, self._place | self._options
        return conn.subscribe_all(**options) if self.stream == ALL else conn.subscribe(self.stream, **options)

    def entered(self) -> None:
        if self._place.get("start") is END:
            self.periods[-1].first_wanted = self.truth.next_place(self.stream)

    def _begin(self) -> dict[str, Any]:
        """Where to start, however it is said; and so the first place that may be seen, and must be."""
        start: Place = Position(0, 0) if self.stream == ALL else 0
        stored = [fact.place for fact in self.truth.sure_facts(self.stream)]
        kind = self.random.choice(("nothing yet", "start", "start", "here", "after", "end", "ahead"))
        if kind == "nothing yet" or (kind in ("here", "after") and not stored):
            place: dict[str, Any] = {"after": None}
        elif kind == "start":
            place = {"start": START}
        elif kind == "ahead" and self.stream != ALL:
            ahead = len(stored) + self.random.randrange(4)
            place, start = {"after": ahead}, ahead + 1
        elif kind in ("end", "ahead"):
            place, start = {"start": END}, self.truth.sure_place(self.stream)
        else:
            at = self.random.choice(stored)
            place = {"start" if kind == "here" else "after": at}
            start = at if kind == "here" else _following(at)
        self.periods.append(Period(start, start))
        return place

    def _go_on(self) -> dict[str, Any]:
        """Where the last subscription was when it ended."""
        kept = [place for entry in self.periods[-1].history if (place := self.place_of(entry)) is not None]
        self.periods[-1].history.append(Heard(trio.current_time(), None))
        return {"after": kept[-1]} if kept else self._place

    def place_of(self, entry: Seen | Heard) -> Place | None:
        """The place to go on after, if there is one to keep."""
        return entry.place if isinstance(entry, Seen) else None

    async def work(self) -> None:
        await super().work()
        history = self.periods[-1].history
        kept = history and self.place_of(history[-1]) is not None
        if kept and not self.is_calm and self.random.random() < self._restlessness:
            raise Enough


class Filtered(CatchUp):
    """What a filter leaves of the log. It keeps the places between events too, and goes on after them."""

    def __init__(self, stage: Stage, choice: Choice) -> None:
        super().__init__(stage, ALL)
        self._choice = choice
        self._options = {"filter": choice.filter}
        self._restlessness = self.random.choice((0.0, 0.05, 0.3))
        self.style = self.random.choice(("notices", "notices", "notices", self.style))

    def __repr__(self) -> str:
        return f"{super().__repr__()} with {self._choice.filter!r}"

    def facts(self) -> list[Fact]:
        """What it chooses."""
        return self.truth.chosen(self._choice.chooses)

    def place_of(self, entry: Seen | Heard) -> Place | None:
        """An event's own, or one that was told."""
        if isinstance(entry, Heard) and isinstance(entry.notice, Checkpoint):
            return entry.notice.position
        return super().place_of(entry)


class Live(Consumer):
    """What is pushed from now on. Dropped because it was too slow, it begins anew."""

    may_overflow = True

    def __init__(self, stage: Stage, source: str) -> None:
        super().__init__(stage, source)
        # Who does not listen is told by the log, which says less of where the gap is.
        self.style = self.random.choice(("notices", "notices", "notices", self.style))
        self._allowed: Place
        self.grant(self.client.settings.live_buffer_events, self.client.settings.live_buffer_bytes)

    def missing(self, period: Period) -> list[Place]:
        """What came while it was subscribed, and no possible gap was told of."""
        if not self.hears and self._was_warned():
            return []
        return [fact.place for fact in self.wanted(period) if not _is_excused(period, fact.place)]

    def _was_warned(self) -> bool:
        name = "the log of all streams" if self.stream == ALL else f"stream {self.stream!r}"
        wanted = f"the subscription to {name} was interrupted: events may be missing"
        return wanted in self.client.trace.warnings

    def is_waiting(self, period: Period, *, at_the_end: bool) -> bool:
        """Whether the last event is still to come. Before the end it may have come into a gap."""
        wanted = self.wanted(period) if at_the_end else []
        return bool(wanted) and wanted[-1] == self.truth.facts(self.stream)[-1]

    def open(self) -> Any:
        self._allowed = self.truth.sure_place(self.stream)
        conn = self.client.conn
        return conn.subscribe_all_live() if self.stream == ALL else conn.subscribe_live(self.stream)

    def entered(self) -> None:
        self.periods.append(Period(self._allowed, self.truth.next_place(self.stream)))


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


def _following(place: Place) -> Place:
    """The first place after this one."""
    if isinstance(place, Position):
        return Position(place.commit, place.prepare + 1)
    return place + 1

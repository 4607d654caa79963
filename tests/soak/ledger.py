"""What was written and what each consumer saw, counted while it happens and held against the store at the end. Pure.

An event is known by one number, its `code`, which is also its id. Codes are kept in arrays, eight bytes an event, so
that hours of them neither hide the growth of the process nor keep the garbage collector busy.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from trio_extreme import NewEvent, Position

_WRITER_SHIFT = 40


def make_id(writer: int, sequence: int) -> UUID:
    """The id of a writer's event. Writers are numbered from 1: an id of zeros is none."""
    return UUID(int=writer << _WRITER_SHIFT | sequence)


def codes_of(events: Iterable[NewEvent]) -> list[int]:
    return [event.id.int for event in events]


def _describe(code: int) -> str:
    return f"event {code & (1 << _WRITER_SHIFT) - 1} of writer {code >> _WRITER_SHIFT}"


@dataclass(frozen=True)
class Verdict:
    """What is true of a run. `strange` counts what can have no good reason, such as an event that was refused."""

    written: int
    delivered: int
    lost: int
    doubled: int
    out_of_order: int
    strange: int

    @property
    def faultless(self) -> bool:
        return not (self.lost or self.doubled or self.out_of_order or self.strange)


class Ledger:
    """All that is known of the events; `complain` is told of everything wrong, in words, when it is noticed."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self._known: dict[str, array[int]] = defaultdict(lambda: array("Q"))
        self._doubtful = array("Q")
        self._refused = array("Q")
        self._trails: list[Trail] = []
        self.acknowledged_events = 0
        self.strange = 0

    @property
    def doubtful_events(self) -> int:
        """Of how many events it is not known whether they were written."""
        return len(set(self._doubtful))

    # --- what writers were told

    def acknowledged(self, stream: str, first: int, codes: Sequence[int]) -> None:
        """These events have the numbers from `first` on."""
        self.acknowledged_events += len(codes)
        for number, code in enumerate(codes, first):
            self._learn(stream, number, code, "a writer was told")

    def doubtful(self, codes: Iterable[int]) -> None:
        """These are in the store, or they are not."""
        self._doubtful.extend(codes)

    def refused(self, codes: Iterable[int]) -> None:
        """These are not in the store: the writer was told so, or told that nothing was sent.

        That is, not this time: what was doubtful before stays so.
        """
        self._refused.extend(codes)

    # --- what consumers saw

    def trail(self, name: str, stream: str, *, live: bool = False) -> Trail:
        """Where a consumer says what it sees of one stream."""
        trail = Trail(self, name, stream, live=live)
        self._trails.append(trail)
        return trail

    def saw(self, stream: str, number: int, code: int, name: str) -> None:
        """A consumer of this name saw this event."""
        self._learn(stream, number, code, f"{name} saw")

    def length(self, stream: str) -> int:
        """How many events the stream has, as far as anybody was told."""
        return len(self._known[stream])

    def behind(self) -> list[str]:
        """Which consumers have not seen all of that, though they should."""
        return [str(trail) for trail in self._trails if trail.lacks(len(self._known[trail.stream]))]

    def delivered(self) -> int:
        """How many events all consumers have seen."""
        return sum([trail.delivered for trail in self._trails])

    def is_strange(self, text: str) -> None:
        self.strange += 1
        self._complain(text)

    def complain(self, text: str) -> None:
        self._complain(text)

    def _learn(self, stream: str, number: int, code: int, who: str) -> None:
        """All who ever say what an event is must say the same."""
        known = self._known[stream]
        if number >= len(known):
            known.extend([0] * (number + 1 - len(known)))
        if known[number] not in (0, code):
            other = _describe(known[number])
            self.is_strange(f"{stream}/{number}: {who} {_describe(code)}, but it was {other}")
        known[number] = code

    # --- what is in the store

    def judge(self, stored: Mapping[str, Sequence[int]]) -> Verdict:
        """Hold everything against the codes of each stream's events, as they are stored."""
        lost = sum([self._missing_from_store(stream, stored.get(stream, ())) for stream in self._known])
        lost += sum([trail.lost(len(stored.get(trail.stream, ()))) for trail in self._trails])
        doubled = self._stored_twice(stored) + sum([trail.doubled for trail in self._trails])
        self._find_ghosts(stored)
        return Verdict(
            written=sum(map(len, stored.values())),
            delivered=self.delivered(),
            lost=lost,
            doubled=doubled,
            out_of_order=sum([trail.out_of_order for trail in self._trails]),
            strange=self.strange,
        )

    def _missing_from_store(self, stream: str, stored: Sequence[int]) -> int:
        known = self._known[stream]
        for number, (code, there) in enumerate(zip(known, stored, strict=False)):
            if code not in (0, there):
                self.is_strange(f"{stream}/{number}: stored is {_describe(there)}, but it was {_describe(code)}")
        missing = len(known) - len(stored)
        if missing > 0:
            self._complain(f"{stream}: {missing} events are not in the store that were acknowledged or seen")
        return max(0, missing)

    def _stored_twice(self, stored: Mapping[str, Sequence[int]]) -> int:
        codes = sorted(chain.from_iterable(stored.values()))
        twice = [code for code, following in pairwise(codes) if code == following]
        for code in twice:
            self._complain(f"{_describe(code)} is in the store twice")
        return len(twice)

    def _find_ghosts(self, stored: Mapping[str, Sequence[int]]) -> None:
        refused = set(self._refused) - set(self._doubtful)
        for code in chain.from_iterable(stored.values()):
            if code in refused:
                self.is_strange(f"{_describe(code)} is in the store, and its writer was told that it is not")


class Trail:
    """What one consumer saw of one stream.

    A catch-up consumer has to see all of it. A `live` one may begin anywhere, and skip events once after each gap it
    was told of.
    """

    def __init__(self, ledger: Ledger, name: str, stream: str, *, live: bool) -> None:
        self._ledger = ledger
        self._name = name
        self.stream = stream
        self._may_skip = live
        self._next = 0
        self._missing: set[int] = set()
        self.delivered = 0
        self.doubled = 0
        self.out_of_order = 0

    @property
    def reached(self) -> int:
        """The number of the event that should come next."""
        return self._next

    def __str__(self) -> str:
        return f"{self._name} is at {self._next} of {self.stream}"

    def lacks(self, total: int) -> int:
        """How many events of so many should have come since the last; below 0 it saw more than there are."""
        return 0 if self._may_skip else total - self._next

    def gap_told(self) -> None:
        """The consumer was told that events may be missing before the next."""
        self._may_skip = True

    def saw(self, number: int, code: int) -> bool:
        """Take down an event; returns whether it was the one that had to come."""
        self.delivered += 1
        self._ledger.saw(self.stream, number, code, self._name)
        if self._may_skip and number > self._next:
            self._next = number
        self._may_skip = False
        if number == self._next:
            self._next += 1
            return True
        self._take_down_wrong(number)
        return False

    def _take_down_wrong(self, number: int) -> None:
        where = f"{self._name}: {self.stream}/{number} came, where {self._next} was to come"
        if number > self._next:
            self._missing.update(range(self._next, number))
            self._next = number + 1
        elif number in self._missing:
            self._missing.discard(number)
            self.out_of_order += 1
            where += ", late"
        else:
            self.doubled += 1
            where += ", again"
        self._ledger.complain(where)

    def lost(self, total: int) -> int:
        """How many of so many events never came."""
        behind = self.lacks(total)
        if behind < 0:
            self._ledger.is_strange(f"{self._name}: saw {-behind} events of {self.stream} that are not in the store")
        lost = len(self._missing) + max(0, behind)
        if lost:
            self._ledger.complain(f"{self._name}: {lost} events of {self.stream} never came, the first {self._first}")
        return lost

    @property
    def _first(self) -> int:
        return min(self._missing, default=self._next)


class LogTrail:
    """What one consumer saw of the log: a trail a stream, and positions that only go up."""

    def __init__(self, ledger: Ledger, name: str, *, live: bool = False) -> None:
        self._ledger = ledger
        self._name = name
        self._live = live
        self._trails: dict[str, Trail] = {}
        self._position: Position | None = None

    def trail(self, stream: str) -> Trail:
        """The part of one stream: its events have to come, whether or not any came yet."""
        trail = self._trails.get(stream)
        if trail is None:
            trail = self._trails[stream] = self._ledger.trail(self._name, stream, live=self._live)
        return trail

    def gap_told(self) -> None:
        for trail in self._trails.values():
            trail.gap_told()

    def saw(self, stream: str, number: int, code: int, position: Position) -> None:
        trail = self.trail(stream)
        in_turn = trail.saw(number, code)
        if in_turn and self._position is not None and position <= self._position:
            trail.out_of_order += 1
            self._ledger.complain(f"{self._name}: {stream}/{number} at {position} came after {self._position}")
        self._position = position

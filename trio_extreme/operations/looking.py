"""Whether the events of an append that got no answer are in their stream.

A server finds a repeated append by the ids of its events where a version protects it, and else only among the ids it
remembers, which die with a restart. So we look ourselves, backwards from the stream's end. Absence is harder to prove
than presence: it counts only where we have seen every number down to the first where the events can be, or to events
that are surely older than the call. A few of those are not enough: an event of a longer transaction says when it was
written and not when it was committed, so that younger ones may lie below it.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.operations.reading import LAST, ReadStream
from trio_extreme.values import MAX_READ

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trio_extreme.errors import StreamNotFound
    from trio_extreme.events import Event
    from trio_extreme.operations.reading import StreamPage

MAX_EVENTS = MAX_READ
"""Events read at most."""

MAX_BYTES = 16 * 1024 * 1024
"""And their bytes."""

SURELY_OLDER = 300.0
"""Seconds by which an event must be older than the call: the server's clock is not ours."""

OLD_EVENTS = 512
OLD_BYTES = 4 * 1024 * 1024
"""So many older ones in a row, or the last that there are, count for the end of the look: hardly a transaction that
took minutes has more."""


class Verdict(Enum):
    """What looking found out."""

    THERE = "there"
    ABSENT = "absent"
    UNSURE = "unsure"


class Finding(NamedTuple):
    """The verdict on one append; the numbers of its first and last event where they are there."""

    verdict: Verdict
    first: int = -1
    last: int = -1


UNSURE = Finding(Verdict.UNSURE)
ABSENT = Finding(Verdict.ABSENT)


class LookUp:
    """One look at a stream, for all appends to it that wait for one.

    Ask for `operation` and give its page to `take`, until `done`; `finding` then says what is known of each append.
    `oldest` is when the first of the calls began, in seconds since 1970; before number `floor` none of the events can
    be.
    """

    def __init__(self, stream: str, ids: Iterable[bytes], oldest: float, floor: int = 0) -> None:
        self._stream = stream
        self._missing = set(ids)
        self._certain_before = oldest - SURELY_OLDER
        self._floor = floor
        self._numbers: dict[bytes, int] = {}
        self._next = LAST
        self._expected: int | None = None
        #: Of the stream, when it was looked at; -1 where there is none.
        self.last_number = -1
        # Down to which number every one was seen, and how many of the last are older than the call.
        self._lowest: float = inf
        self._old_events = 0
        self._old_bytes = 0
        self._complete = False
        self._events = 0
        self._bytes = 0
        self.done = not self._missing

    def operation(self, count: int) -> ReadStream:
        """The request for the next `count` events at most."""
        most = min(count, MAX_EVENTS - self._events)
        return ReadStream(self._stream, self._next, most, backwards=True, resolve_links=False, require_master=True)

    def take(self, page: StreamPage) -> None:
        """Look through a page."""
        self._events += len(page.events)
        self._bytes += page.size
        if self._expected is None:
            self._expected = self.last_number = page.last_number
        whole = True
        for event in page.events:
            whole = whole and event.number == self._expected
            self._expected = event.number - 1
            self._count_if_old(event)
            if whole:
                self._lowest = event.number
            if event.id_bytes in self._missing:
                self._missing.discard(event.id_bytes)
                self._numbers[event.id_bytes] = event.number
        self._next = page.next
        self._judge(page, whole=whole)

    def _count_if_old(self, event: Event) -> None:
        # An event that does not say when it was written has a zero there, and may be as young as any.
        if 0 < event.created.timestamp() < self._certain_before:
            self._old_events += 1
            self._old_bytes += len(event.data) + len(event.metadata)
        else:
            self._old_events = self._old_bytes = 0

    def _judge(self, page: StreamPage, *, whole: bool) -> None:
        """Whether there is any use in going on, and whether what was not found is surely not there."""
        old_enough = self._old_events >= (1 if page.is_end else OLD_EVENTS) or self._old_bytes >= OLD_BYTES
        self._complete = whole and (self._lowest <= self._floor or old_enough)
        spent = self._events >= MAX_EVENTS or self._bytes >= MAX_BYTES
        self.done = self._complete or not whole or not self._missing or page.is_end or spent

    def not_found(self, error: StreamNotFound) -> None:
        """There is no stream. That proves absence only where there never was one: a soft-deleted one hides events."""
        self._complete = error.last_number == -1
        self.done = True

    def give_up(self) -> None:
        """The stream cannot be read: what was not found yet stays unknown."""
        self.done = True

    def finding(self, ids: Sequence[bytes], floor: int = 0) -> Finding:
        """What is known of an append of events with these ids, which cannot be before number `floor`."""
        numbers = [self._numbers[event_id] for event_id in ids if event_id in self._numbers]
        if not numbers:
            return ABSENT if ids and (self._complete or self._lowest <= floor) else UNSURE
        if numbers != list(range(numbers[0], numbers[0] + len(ids))):
            return UNSURE
        return Finding(Verdict.THERE, numbers[0], numbers[-1])

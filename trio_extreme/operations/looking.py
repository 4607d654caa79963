"""Whether the events of an append that got no answer are in their stream.

A server finds a repeated append by the ids of its events where a version protects it, and else only among the ids it
remembers, which die with a restart. So we look ourselves, backwards from the stream's end. Absence is harder to prove
than presence: it counts only where we have seen every number down to the stream's first event, or to one that is
surely older than the call.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.operations.reading import LAST, ReadStream
from trio_extreme.values import MAX_READ

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trio_extreme.errors import StreamNotFound
    from trio_extreme.operations.reading import StreamPage

MAX_EVENTS = MAX_READ
"""Events read at most."""

MAX_BYTES = 16 * 1024 * 1024
"""And their bytes."""

SURELY_OLDER = 300.0
"""Seconds by which an event must be older than the call: the server's clock is not ours."""


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
    `oldest` is when the first of the calls began, in seconds since 1970.
    """

    def __init__(self, stream: str, ids: Iterable[bytes], oldest: float) -> None:
        self._stream = stream
        self._missing = set(ids)
        self._certain_before = oldest - SURELY_OLDER
        self._numbers: dict[bytes, int] = {}
        self._next = LAST
        self._expected: int | None = None
        #: Of the stream, when it was looked at; -1 where there is none.
        self.last_number = -1
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
            if event.id_bytes in self._missing:
                self._missing.discard(event.id_bytes)
                self._numbers[event.id_bytes] = event.number
        self._next = page.next
        self._judge(page, whole=whole)

    def _judge(self, page: StreamPage, *, whole: bool) -> None:
        """Whether there is any use in going on, and whether what was not found is surely not there."""
        first_seen = self._expected == -1
        # An event that does not say when it was written has a zero there, and may be as young as any.
        old_seen = bool(page.events) and 0 < page.events[-1].created.timestamp() < self._certain_before
        self._complete = whole and (first_seen or old_seen)
        spent = self._events >= MAX_EVENTS or self._bytes >= MAX_BYTES
        self.done = self._complete or not whole or not self._missing or page.is_end or spent

    def not_found(self, error: StreamNotFound) -> None:
        """There is no stream. That proves absence only where there never was one: a soft-deleted one hides events."""
        self._complete = error.last_number == -1
        self.done = True

    def give_up(self) -> None:
        """The stream cannot be read: what was not found yet stays unknown."""
        self.done = True

    def finding(self, ids: Sequence[bytes]) -> Finding:
        """What is known of an append of events with these ids."""
        numbers = [self._numbers[event_id] for event_id in ids if event_id in self._numbers]
        if not numbers:
            return ABSENT if self._complete and ids else UNSURE
        if numbers != list(range(numbers[0], numbers[0] + len(ids))):
            return UNSURE
        return Finding(Verdict.THERE, numbers[0], numbers[-1])

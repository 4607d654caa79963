"""Those who read, each in its own way, and take down everything they see.

A way of reading is given a subscription and `take`, which files an event; so each fits streams and the log.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from trio_extreme import CaughtUp, Event, Reconnected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.soak.ledger import Ledger, LogTrail, Trail
    from trio_extreme import LogEvent

    Take: TypeAlias = Callable[[Any], None]
    Way: TypeAlias = Callable[[Any, Take], Awaitable[None]]

OURS = "soak-"
"""What the names of all streams of a soak begin with: the log has others too."""

NAP = 2.0
"""Seconds that a drowsy consumer sleeps at most."""


def into(trail: Trail) -> Take:
    """Files the events of a stream."""

    def take(event: Event) -> None:
        trail.saw(event.number, event.id.int)

    return take


def into_log(trail: LogTrail) -> Take:
    """Files the events of the log."""

    def take(event: LogEvent) -> None:
        if event.stream.startswith(OURS):
            trail.saw(event.stream, event.number, event.id.int, event.position)

    return take


async def follow(subscription: Any, take: Take) -> None:
    """Event by event, as fast as they come."""
    async with subscription as events:
        async for event in events:
            take(event)


async def follow_batches(subscription: Any, take: Take) -> None:
    """In lists."""
    async with subscription as events:
        async for batch in events.batches():
            for event in batch:
                take(event)


async def follow_drowsily(subscription: Any, take: Take, random: Random) -> None:
    """With a nap every few seconds, long enough to fall behind a small buffer."""
    awake_until = 0.0
    async with subscription as events:
        async for event in events:
            take(event)
            if trio.current_time() > awake_until:
                await trio.sleep(random.uniform(0, NAP))
                awake_until = trio.current_time() + random.uniform(0, 2 * NAP)


class NoticeFollower:
    """Reads notices too, and holds them to what is said of them; with `trail` it is a live subscription."""

    def __init__(self, ledger: Ledger, name: str, trail: Trail | LogTrail | None = None) -> None:
        self._ledger = ledger
        self._name = name
        self._trail = trail
        #: What it was told how often.
        self.told: Counter[str] = Counter()

    async def follow(self, subscription: Any, take: Take) -> None:
        caught_up = False
        async with subscription as events:
            async for item in events.with_notices():
                if isinstance(item, Event):
                    take(item)
                else:
                    self._hear(item)
                if caught_up and item == CaughtUp():
                    self._ledger.is_strange(f"{self._name}: CaughtUp twice in a row")
                caught_up = item == CaughtUp()

    def _hear(self, notice: object) -> None:
        self.told[type(notice).__name__] += 1
        if isinstance(notice, Reconnected) and notice.gap_possible:
            if self._trail is None:
                self._ledger.is_strange(f"{self._name}: a catch-up subscription was told of a gap")
            else:
                self._trail.gap_told()


class Consumer:
    """Reads in one of these ways, and where `leave` is called goes on in another block after its last checkpoint."""

    def __init__(self, way: Way, subscribe: Callable[[Any], Any], take: Take) -> None:
        self._way = way
        self._subscribe = subscribe
        self._take = take
        self._checkpoint: Any = None
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        while True:
            with trio.CancelScope() as self._scope:
                await self._way(self._subscribe(self._checkpoint), self._see)

    def _see(self, event: Event) -> None:
        self._take(event)
        self._checkpoint = event.checkpoint

    def leave(self) -> None:
        self._scope.cancel()

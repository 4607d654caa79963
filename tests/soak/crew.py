"""Who takes part in a soak: writers and consumers of all kinds, on two connections."""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from tests.soak.consumers import (
    OURS,
    Consumer,
    NoticeFollower,
    follow,
    follow_batches,
    follow_drowsily,
    into,
    into_log,
)
from tests.soak.ledger import LogTrail
from tests.soak.writers import CarefulWriter, CarelessWriter, Founder, ImpatientWriter, RivalWriter, Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.soak.consumers import Take, Way
    from tests.soak.ledger import Ledger, Trail
    from trio_extreme import Connection

LOG = "the log"
SHARED = OURS + "shared"
CAREFUL = OURS + "careful"
CAREFUL_TOO = OURS + "careful-too"
RIVALS = OURS + "rivals"
FOUNDED = [f"{OURS}founded-{number:02}" for number in range(40)]
STREAMS = [SHARED, CAREFUL, CAREFUL_TOO, RIVALS, *FOUNDED]

STAY = 1.0
"""Seconds between two departures, of whichever leaver, on average."""


class Crew:
    """All of them. `wide` is a connection with large buffers, `narrow` one with small ones."""

    def __init__(self, ledger: Ledger, wide: Connection, narrow: Connection, random: Random) -> None:
        self._ledger = ledger
        self._wide = wide
        self._narrow = narrow
        self._random = random
        self._consumers: list[Consumer] = []
        self._leavers: list[Consumer] = []
        self._watchers: list[Callable[[], Awaitable[None]]] = []
        self._live_trails: list[Trail] = []
        self._listeners: list[NoticeFollower] = []
        self.writers = self._make_writers()
        self._make_consumers()

    def start(self, nursery: trio.Nursery) -> None:
        """Start the consumers."""
        for consumer in self._consumers:
            nursery.start_soon(consumer.run)
        for watcher in self._watchers:
            nursery.start_soon(watcher)

    async def disturb(self) -> None:
        """Make those that leave and return do so."""
        random = self._chance()
        while True:
            await trio.sleep(random.expovariate(1 / STAY))
            random.choice(self._leavers).leave()

    @property
    def is_live(self) -> bool:
        """Whether the live consumers have seen the last event of the stream that they share."""
        return all(trail.reached == self._ledger.length(SHARED) for trail in self._live_trails)

    def told(self) -> Counter[str]:
        """What consumers were told beside events, and how often."""
        return sum([listener.told for listener in self._listeners], Counter())

    def _chance(self) -> Random:
        """Each has its own, so that what one does changes nothing for the others."""
        return Random(self._random.getrandbits(64))

    def _make_writers(self) -> list[Writer]:
        kinds: list[tuple[type[Writer], Connection, str]] = [
            (CarelessWriter, self._wide, SHARED),
            (CarelessWriter, self._narrow, SHARED),
            (ImpatientWriter, self._wide, SHARED),
            (CarefulWriter, self._wide, CAREFUL),
            (CarefulWriter, self._narrow, CAREFUL_TOO),
            (RivalWriter, self._wide, RIVALS),
            (RivalWriter, self._narrow, RIVALS),
        ]
        writers = [
            kind(conn, self._ledger, stream, number, self._chance())
            for number, (kind, conn, stream) in enumerate(kinds, 1)
        ]
        return [*writers, Founder(self._wide, self._ledger, FOUNDED, len(writers) + 1, self._chance())]

    def _make_consumers(self) -> None:
        for conn, buffer in ((self._wide, "wide"), (self._narrow, "narrow")):
            for stream in (SHARED, LOG):
                name = f"{stream}, {buffer}"
                self._hire(follow, conn, stream, name)
                self._hire(follow_batches, conn, stream, f"{name}, batches")
                self._hire(partial(follow_drowsily, random=self._chance()), conn, stream, f"{name}, drowsy")
                self._hire(self._listener(f"{name}, notices").follow, conn, stream, f"{name}, notices")
                self._leavers.append(self._hire(follow, conn, stream, f"{name}, in turns"))
        for stream in (CAREFUL, CAREFUL_TOO, RIVALS, *FOUNDED[::10]):
            self._hire(follow, self._wide, stream, stream)
        for stream in (SHARED, LOG):
            self._hire_watcher(self._wide, stream, f"{stream}, live")

    def _hire(self, way: Way, conn: Connection, stream: str, name: str) -> Consumer:
        consumer = Consumer(way, partial(_subscribe, conn, stream), _into(self._trail(stream, name)))
        self._consumers.append(consumer)
        return consumer

    def _listener(self, name: str, trail: Trail | LogTrail | None = None) -> NoticeFollower:
        listener = NoticeFollower(self._ledger, name, trail)
        self._listeners.append(listener)
        return listener

    def _hire_watcher(self, conn: Connection, stream: str, name: str) -> None:
        trail = self._trail(stream, name, live=True)
        self._live_trails.append(trail.trail(SHARED) if isinstance(trail, LogTrail) else trail)
        subscription = conn.subscribe_all_live() if stream == LOG else conn.subscribe_live(stream)
        self._watchers.append(partial(self._listener(name, trail).follow, subscription, _into(trail)))

    def _trail(self, stream: str, name: str, *, live: bool = False) -> Trail | LogTrail:
        if stream != LOG:
            return self._ledger.trail(name, stream, live=live)
        trail = LogTrail(self._ledger, name, live=live)
        # All streams from the start, so that none makes the process grow when it comes.
        for each in STREAMS:
            trail.trail(each)
        return trail


def _subscribe(conn: Connection, stream: str, after: Any = None) -> Any:
    return conn.subscribe_all(after=after) if stream == LOG else conn.subscribe(stream, after=after)


def _into(trail: Trail | LogTrail) -> Take:
    return into_log(trail) if isinstance(trail, LogTrail) else into(trail)

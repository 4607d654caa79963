"""Those who only look on: at round trips, at what becomes of a connection, at how much is buffered."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import trio

from tests.soak.writers import NOT_WRITTEN
from trio_extreme import Connected, Lost, Reconnecting

if TYPE_CHECKING:
    from tests.soak.ledger import Ledger
    from trio_extreme import Connection

PING_PAUSE = 0.2
LOOK_PAUSE = 0.1

_FOLLOWS: dict[type, tuple[type, ...]] = {
    Connected: (Lost,),
    Lost: (Reconnecting,),
    Reconnecting: (Reconnecting, Connected),
}
"""Which change of a connection may come after which."""


class Onlooker:
    """Looks at one connection, whose subscriptions may hold so many events each."""

    def __init__(self, ledger: Ledger, conn: Connection, most_events: int) -> None:
        self._ledger = ledger
        self._conn = conn
        self._most_events = most_events
        #: What became of the connection, and how often.
        self.changes: Counter[str] = Counter()
        #: Seconds of the longest round trip.
        self.longest_ping = 0.0

    def start(self, nursery: trio.Nursery) -> None:
        for task in (self._ping, self._watch_changes, self._watch_buffers):
            nursery.start_soon(task)

    async def _ping(self) -> None:
        while True:
            await trio.sleep(PING_PAUSE)
            try:
                self.longest_ping = max(self.longest_ping, await self._conn.ping())
            except NOT_WRITTEN:
                self.changes["failed ping"] += 1

    async def _watch_changes(self) -> None:
        before: object = None
        async for change in self._conn.changes():
            if before is not None and not isinstance(change, _FOLLOWS[type(before)]):
                self._ledger.is_strange(f"{change} came after {before}")
            self.changes[type(change).__name__] += 1
            before = change

    async def _watch_buffers(self) -> None:
        while True:
            await trio.sleep(LOOK_PAUSE)
            for held in self._conn.statistics().subscriptions:
                if held.buffered_events > self._most_events:
                    self._ledger.is_strange(f"{held} holds more than {self._most_events} events")

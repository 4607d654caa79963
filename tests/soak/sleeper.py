"""`python -m tests.soak.sleeper WAY`: what a consumer costs that sleeps for ever behind a flood of live events.

WAY is `subscribe` or `subscribe_live`. The events come from a peer in another process; beside the sleeper, on the same
connection, another subscription follows its own stream, and pings go round. Prints the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import trio

from tests.soak.census import memory
from tests.soak.flood import BLOCK, FLOOD, PACE, running_flood
from trio_extreme import Settings, open_connection

if TYPE_CHECKING:
    from tests.soak.flood import FloodProcess
    from trio_extreme import Connection

EVENTS = 1_000_000
PING_PAUSE = 0.05


@dataclass
class Figures:
    """Times are seconds, memory is bytes."""

    #: Pushed at the sleeper, by the peer's count, and how long that took.
    events: int = 0
    seconds: float = 0.0
    #: How many events of the other subscription should come, and how many did, each after the one before.
    pace: int = 0
    kept_pace: int = 0
    #: After the peer had sent the last of them.
    pace_lag: float = 0.0
    longest_ping: float = 0.0
    heartbeats: int = 0
    longest_heartbeat: float = 0.0
    leaving: float = 0.0
    memory_growth: int = 0
    reconnects: int = 0


class Run:
    """One connection, and all that goes on on it."""

    def __init__(self, way: str, flood: FloodProcess) -> None:
        self.figures = Figures()
        self._way = way
        self._flood = flood
        self._pace_changed = trio.Event()

    async def run(self) -> Figures:
        async with open_connection(Settings(host="127.0.0.1", port=self._flood.port)) as conn:
            before = memory("VmRSS")
            async with trio.open_nursery() as nursery:
                await nursery.start(self._follow, conn)
                nursery.start_soon(self._sleep, conn)
                nursery.start_soon(self._ping, conn)
                self._take_down(await self._flood.report())
                await self._wait_for_pace()
                self.figures.reconnects = conn.statistics().reconnects
                began_leaving = trio.current_time()
                nursery.cancel_scope.cancel()
        self.figures.leaving = trio.current_time() - began_leaving
        self.figures.memory_growth = memory("VmHWM") - before
        return self.figures

    async def _follow(self, conn: Connection, *, task_status: trio.TaskStatus[None]) -> None:
        async with conn.subscribe_live(PACE) as events:
            task_status.started()
            async for event in events:
                if event.number == self.figures.kept_pace:
                    self.figures.kept_pace += 1
                    self._pace_changed.set()

    async def _sleep(self, conn: Connection) -> None:
        """Take the first event, and never ask for another."""
        subscription = conn.subscribe(FLOOD) if self._way == "subscribe" else conn.subscribe_live(FLOOD)
        async with subscription as events:
            async for event in events:
                assert event.number == 0
                await trio.sleep_forever()

    async def _ping(self, conn: Connection) -> None:
        while True:
            await trio.sleep(PING_PAUSE)
            self.figures.longest_ping = max(self.figures.longest_ping, await conn.ping())

    def _take_down(self, report: dict[str, Any]) -> None:
        self.figures.events = report["events"]
        self.figures.seconds = round(report["seconds"], 2)
        self.figures.pace = report["events"] // BLOCK
        self.figures.heartbeats = len(report["heartbeat_delays"])
        self.figures.longest_heartbeat = max(report["heartbeat_delays"])

    async def _wait_for_pace(self) -> None:
        began = trio.current_time()
        while self.figures.kept_pace < self.figures.pace:
            self._pace_changed = trio.Event()
            await self._pace_changed.wait()
        self.figures.pace_lag = trio.current_time() - began


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.sleeper", description=__doc__)
    parser.add_argument("way", choices=("subscribe", "subscribe_live"))
    parser.add_argument("--events", type=int, default=EVENTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with running_flood(arguments.events) as flood:
        figures = trio.run(Run(arguments.way, flood).run)
    print(json.dumps(asdict(figures)))  # noqa: T201 - its result


if __name__ == "__main__":
    _main()

"""`python -m tests.soak.sleeper WAY`: what a consumer costs that sleeps for ever behind a flood of live events.

WAY is `subscribe` or `subscribe_live`. The events come from a peer in another process; beside the sleeper, on the same
connection, a second subscription follows its stream, and pings go round. Prints the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

import trio

from tests.soak.census import memory
from tests.soak.flood import FLOOD, PACE, FloodProcess, running_flood
from trio_extreme import Connection, Settings, open_connection

EVENTS = 1_000_000
PING_PAUSE = 0.05


@dataclass
class Figures:
    """Seconds and bytes. `kept_pace` are the numbers of the other subscription's events that came in their order."""

    events: int = 0
    seconds: float = 0.0
    kept_pace: int = 0
    longest_lag: float = 0.0
    longest_ping: float = 0.0
    heartbeats_answered: int = 0
    longest_heartbeat: float = 0.0
    leaving: float = 0.0
    memory_before: int = 0
    memory_growth: int = 0
    reconnects: int = 0


class Sleeper:
    """One run."""

    def __init__(self, way: str, flood: FloodProcess) -> None:
        self._way = way
        self._flood = flood
        self.figures = Figures()
        self._asleep = trio.Event()

    async def run(self) -> None:
        settings = Settings(host="127.0.0.1", port=self._flood.port)
        async with open_connection(settings) as conn:
            async with trio.open_nursery() as nursery:
                self.figures.memory_before = memory("VmRSS")
                nursery.start_soon(self._follow, conn)
                nursery.start_soon(self._sleep, conn)
                nursery.start_soon(self._ping, conn)
                report = await self._flood.report()
                await self._wait_for_pace(report["events"] // 1024)
                self._take_down(conn, report)
                leaving = trio.current_time()
                nursery.cancel_scope.cancel()
        self.figures.leaving = trio.current_time() - leaving

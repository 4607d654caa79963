"""A soak: a client under load while its node and the network break, and what is true of it in the end."""

from __future__ import annotations

import sys
import time
from array import array
from collections import Counter
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from tests.soak.census import Census, take_census
from tests.soak.crew import SHARED, STREAMS, Crew
from tests.soak.ledger import Ledger
from tests.soak.node import LONGEST, RATE, NodeProcess, running_node
from tests.soak.onlookers import LOOK_PAUSE, Onlooker
from tests.soak.writers import CarelessWriter
from trio_extreme import Connection, Settings, open_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.soak.ledger import Verdict

WIDE = Settings(
    username="admin",
    password="changeit",
    connect_timeout=1,
    identify_timeout=1,
    reconnect_delay=0.02,
    max_reconnect_delay=0.5,
    first_attempts=None,
    heartbeat_interval=0.5,
    heartbeat_timeout=1,
    attempt_timeout=3,
    operation_timeout=15,
)
"""Impatient, so that much happens in a short time."""
NARROW: dict[str, int] = {"buffer_events": 20, "page_size": 50}
"""What makes consumers fall behind."""

WARM_UP = 0.2
"""Which part of the time passes before the first census."""
PATIENCE = 30.0
"""Seconds after the last fault in which everybody must have caught up, on a machine that has other things to do."""
REST = 4.0
"""Seconds after which what a stalled connection still held has come, even of an append that was given up, and Trio has
forgotten the cancel scopes that were left: it keeps each until its deadline."""
PROGRESS = 5.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    seed: int
    seconds: float
    version: str = "4.1.1"
    rate: float = RATE
    longest: float = LONGEST
    verbose: bool = False

    def node_options(self) -> list[str]:
        options = [f"--{name}={getattr(self, name)}" for name in ("seed", "version", "rate", "longest")]
        return [*options, "--verbose"] if self.verbose else options


@dataclass(frozen=True)
class Outcome:
    """What became of it. Objects, memory and what leaked are counted between two calm moments, the warm-up before."""

    plan: Plan
    verdict: Verdict
    acknowledged: int
    doubtful: int
    reconnects: int
    caught_up_after: float
    longest_ping: float
    faults: dict[str, int]
    changes: dict[str, int]
    told: dict[str, int]
    leaked_tasks: dict[str, int]
    leaked_descriptors: int
    objects_per_reconnect: float
    grown_objects: dict[str, int]
    peak_memory: int
    memory_growth: int

    @property
    def faultless(self) -> bool:
        return self.verdict.faultless and not self.leaked_tasks and self.leaked_descriptors <= 0

    def to_json(self) -> dict[str, Any]:
        return {"faultless": self.faultless, **asdict(self)}


def tell(text: str) -> None:
    """On standard error, with the time of day, as the node's process does."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)  # noqa: T201 - its only log


async def run_soak(plan: Plan) -> Outcome:
    """Run it all. What is wrong is told on standard error when it is noticed."""
    ledger = Ledger(tell)
    with trio.fail_after(plan.seconds + 3 * PATIENCE):
        return await _run_soak(plan, ledger)


async def _run_soak(plan: Plan, ledger: Ledger) -> Outcome:
    async with running_node(*plan.node_options()) as node:
        settings = WIDE.replace(host="127.0.0.1", port=node.port)
        before = take_census()
        async with (
            open_connection(settings) as wide,
            open_connection(settings.replace(**NARROW)) as narrow,
        ):
            soak = Soak(plan, node, ledger, (wide, narrow))
            await soak.run()
        after = take_census()
        stored = await read_store(settings)
    return soak.outcome(ledger.judge(stored), before, after)


async def read_store(settings: Settings) -> dict[str, array[int]]:
    """The codes of all events of all streams."""
    stored = {}
    async with open_connection(settings) as conn:
        for stream in STREAMS:
            codes = array("Q")
            async for page in conn.read_stream(stream, missing_ok=True).pages():
                codes.extend([event.id.int for event in page])
            stored[stream] = codes
    return stored


async def _until(condition: Callable[[], bool]) -> None:
    # Looked at, and not told: what ends the waiting is spread over twenty consumers.
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await trio.sleep(LOOK_PAUSE)


class Soak:
    """One run, from open connections to a calm end."""

    def __init__(self, plan: Plan, node: NodeProcess, ledger: Ledger, conns: tuple[Connection, Connection]) -> None:
        random = Random(plan.seed)
        wide, narrow = conns
        self._plan = plan
        self._node = node
        self._ledger = ledger
        self._conns = conns
        self._crew = Crew(ledger, wide, narrow, random)
        self._onlookers = [
            Onlooker(ledger, wide, WIDE.live_buffer_events),
            Onlooker(ledger, narrow, NARROW["buffer_events"]),
        ]
        self._tail_writer = CarelessWriter(wide, ledger, SHARED, len(self._crew.writers) + 1, random)
        self._calm_since = 0.0
        self._caught_up_after = 0.0
        self._marks: list[tuple[Census, int]] = []
        self._faults: dict[str, int] = {}

    @property
    def _reconnects(self) -> int:
        return sum([conn.statistics().reconnects for conn in self._conns])

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._crew.start(nursery)
            for onlooker in self._onlookers:
                onlooker.start(nursery)
            nursery.start_soon(self._tell_progress)
            for part in (WARM_UP, 1 - WARM_UP):
                await self._weather_a_storm(part * self._plan.seconds)
                await self._settle()
                self._marks.append((take_census(), self._reconnects))
            self._faults = (await self._node.tell("report"))["faults"]
            nursery.cancel_scope.cancel()

    async def _weather_a_storm(self, seconds: float) -> None:
        """Write while everything breaks; returns in calm, when all writers know as much as they ever will."""
        enough = trio.Event()
        await self._node.tell("storm")
        async with trio.open_nursery() as writers:
            for writer in self._crew.writers:
                writers.start_soon(writer.run, enough)
            with trio.move_on_after(seconds):
                await self._crew.disturb()
            enough.set()
            await self._node.tell("calm")
            self._calm_since = trio.current_time()

    async def _settle(self) -> None:
        """Wait until everybody has seen everything."""
        with trio.move_on_after(PATIENCE) as patience:
            await self._catch_up()
            self._caught_up_after = max(self._caught_up_after, trio.current_time() - self._calm_since)
            await trio.sleep(max(self._plan.longest, REST))
            await self._go_live()
            await self._catch_up()
        if patience.cancelled_caught:
            for straggler in self._ledger.behind():
                self._ledger.is_strange(f"after {PATIENCE} s of calm {straggler}")

    async def _catch_up(self) -> None:
        await _until(lambda: not self._ledger.behind())

    async def _go_live(self) -> None:
        """Append until the live consumers see it: what is appended before they are back, they may miss."""
        while True:
            await self._tail_writer.write()
            with trio.move_on_after(1):
                await _until(lambda: self._crew.is_live)
                return

    async def _tell_progress(self) -> None:
        began = trio.current_time()
        while True:
            await trio.sleep(PROGRESS)
            tell(
                f"{trio.current_time() - began:.0f} s: {self._ledger.acknowledged_events:,} events acknowledged, "
                f"{self._ledger.delivered():,} delivered, {self._reconnects} reconnects"
            )

    def outcome(self, verdict: Verdict, before: Census, after: Census) -> Outcome:
        """The figures of the run, with what was there before the connections were opened and after they were closed."""
        (first, reconnects_before), (last, reconnects) = self._marks
        left = after.tasks - before.tasks
        return Outcome(
            plan=self._plan,
            verdict=verdict,
            acknowledged=self._ledger.acknowledged_events,
            doubtful=self._ledger.doubtful_events,
            reconnects=reconnects,
            caught_up_after=self._caught_up_after,
            longest_ping=max(onlooker.longest_ping for onlooker in self._onlookers),
            faults=self._faults,
            changes=dict(sum([onlooker.changes for onlooker in self._onlookers], Counter())),
            told=dict(self._crew.told()),
            leaked_tasks=dict((last.tasks - first.tasks) + left),
            leaked_descriptors=max(last.descriptors - first.descriptors, after.descriptors - before.descriptors),
            objects_per_reconnect=(last.objects.total() - first.objects.total())
            / max(1, reconnects - reconnects_before),
            grown_objects=dict((last.objects - first.objects).most_common(10)),
            peak_memory=last.peak,
            memory_growth=last.resident - first.resident,
        )

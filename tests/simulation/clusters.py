"""Days of a cluster: masters die, stand still, lose each other and their clients from sight, and replicas lag.

On most days one node dies for good, and the two that are left have to do.

One connection wants the master and another one a replica. Writers of the soak append through the first, and consumers
follow through both; what they were told and saw is held against what the cluster has in the end. A day is a function of
its seed, like all others, and shares nothing with those of one node but the way in which it is made repeatable.
"""

from __future__ import annotations

import traceback
from array import array
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio
from trio.testing import MockClock

from tests.helpers import assert_nothing_left
from tests.simulation.determinism import Livelock, chance, run_deterministically
from tests.simulation.trace import Trace, log_into
from tests.soak.consumers import OURS, Consumer, follow, follow_batches, into, into_log
from tests.soak.ledger import Ledger, LogTrail
from tests.soak.writers import CarefulWriter, CarelessWriter, RivalWriter
from trio_extreme import ConnectionLost, Settings
from trio_extreme.client import serve
from trio_extreme.embedded import open_cluster
from trio_extreme.engine import Engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from random import Random

    from tests.soak.writers import Writer
    from trio_extreme import Connection
    from trio_extreme.embedded import Cluster, Node

STORM, PATIENCE, TOO_LONG = 15.0, 60.0, 300.0
"""Seconds of bad luck, and then until all has come right; and after which a run is taken for one that hangs."""
SHARED, CAREFUL, RIVALS = STREAMS = (OURS + "shared", OURS + "careful", OURS + "rivals")
_EPOCH = 1_700_000_000


class ClusterOutcome(NamedTuple):
    """How a day went."""

    seed: int
    problems: list[str]
    trace: Trace
    #: How many times each kind of bad luck befell a node.
    luck: Mapping[str, int]
    acknowledged: int
    redirects: int

    @property
    def kind(self) -> str:
        """What the command line calls days like this one."""
        return "cluster"


def simulate_cluster(seed: int) -> ClusterOutcome:
    """Run the day of this seed."""
    day = _Day(seed)
    with log_into(day.trace):
        try:
            run_deterministically(seed, day.clock, day.run)
        except Exception:  # noqa: BLE001 - whatever it is, it is this seed's
            day.trace.problems.append(f"the run ended with\n{traceback.format_exc()}")
    return ClusterOutcome(seed, day.trace.problems, day.trace, day.luck, day.ledger.acknowledged_events, day.redirects)


class _Day:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.trace = Trace()
        self.clock = MockClock()
        self.ledger = Ledger(self.trace.problem)
        self.luck = dict.fromkeys(("kill", "pause", "isolate", "cut off", "lag", "bury"), 0)
        self.redirects = 0
        self._cluster: Cluster
        # Nodes that no client reaches, and the one that never comes back.
        self._cut_off: dict[Node, None] = {}
        self._buried: Node | None = None

    async def run(self) -> None:
        with trio.move_on_after(TOO_LONG) as scope:
            livelock = Livelock(scope)
            trio.lowlevel.add_instrument(livelock)
            await self._play()
        if scope.cancelled_caught:
            self.trace.problem("tasks run on and on, and no time passes" if livelock.found else "it hangs")

    async def _play(self) -> None:
        random = chance(self._seed, "cluster")
        async with open_cluster(3, port=None, random=random, now=self._now) as self._cluster:
            async with self._connected("write") as writing, self._connected("read") as reading:
                await self._live(writing, reading)
                stored = {stream: array("Q", await self._read(writing, stream)) for stream in STREAMS}
                self._check_master(writing)
                for conn in (writing, reading):
                    assert_nothing_left(conn)
            verdict = self.ledger.judge(stored)
            if not verdict.faultless:
                self.trace.problem(str(verdict))

    def _check_master(self, writing: Connection) -> None:
        """Who wants the master has the one there is."""
        master, address = self._cluster.master, writing._engine._moves.address
        if master is None or address.port != master.port:
            self.trace.problem(f"the connection that wants the master is one to {address}; that is {master!r}")

    def _now(self) -> float:
        return _EPOCH + trio.current_time()

    @asynccontextmanager
    async def _connected(self, mode: str) -> AsyncIterator[Connection]:
        settings = Settings(
            nodes=[node.settings.web_endpoint for node in self._cluster.nodes],
            username="admin",
            password="changeit",
            mode=mode,
            first_attempts=None,
            reconnect_delay=0.05,
            max_reconnect_delay=1,
            attempt_timeout=3,
            operation_timeout=20,
        )
        engine = Engine(settings, self._connect, rng=chance(self._seed, "client", of=mode), now=self._now)
        async with serve(engine) as conn:
            yield conn

    async def _connect(self, host: str, port: int) -> trio.abc.Stream:
        if any(port in (node.port, node.http_port) for node in self._cut_off):
            await trio.sleep(0.01)
            raise ConnectionRefusedError
        return await self._cluster.connect(host, port)

    async def _live(self, writing: Connection, reading: Connection) -> None:
        """Writers through the storm, consumers until they have seen all."""
        random = chance(self._seed, "writers")
        kinds = ((CarelessWriter, SHARED), (CarelessWriter, SHARED), (CarefulWriter, CAREFUL))
        kinds += ((RivalWriter, RIVALS), (RivalWriter, RIVALS))
        writers: list[Writer] = [
            kind(writing, self.ledger, stream, number, random) for number, (kind, stream) in enumerate(kinds, 1)
        ]
        enough = trio.Event()
        async with trio.open_nursery() as consuming:
            consuming.start_soon(self._count_redirects, writing)
            for consumer in self._consumers(writing, reading):
                consuming.start_soon(consumer.run)
            async with trio.open_nursery() as nursery:
                for writer in writers:
                    nursery.start_soon(writer.run, enough)
                await self._blow()
                enough.set()
            await self._come_right(writers[2], reading)
            consuming.cancel_scope.cancel()

    def _consumers(self, writing: Connection, reading: Connection) -> list[Consumer]:
        made = [
            Consumer(follow, partial(_subscribe, conn, stream), into(self.ledger.trail(f"{stream} by {name}", stream)))
            for stream in STREAMS
            for name, conn in (("the master's", writing), ("a replica's", reading))
        ]
        log = LogTrail(self.ledger, "the log's")
        for stream in STREAMS:
            log.trail(stream)
        return [*made, Consumer(follow_batches, lambda after: writing.subscribe_all(after=after), into_log(log))]

    async def _count_redirects(self, conn: Connection) -> None:
        async for change in conn.changes():
            self.redirects += type(change).__name__ == "Redirected"

    async def _come_right(self, writer: Writer, reading: Connection) -> None:
        """Everybody can write and read again, and consumers come to the end."""
        with trio.move_on_after(PATIENCE) as scope:
            await writer.write()
            await reading.ping()
            while self.ledger.behind():  # noqa: ASYNC110 - what is waited for has no event
                await trio.sleep(0.1)
        if scope.cancelled_caught:
            self.trace.problem(f"not all came right: {self.ledger.behind()}")

    # --- bad luck

    async def _blow(self) -> None:
        """One thing after another, some of them at the same time; at the end all is over."""
        random = chance(self._seed, "weather")
        ends = trio.current_time() + STORM
        async with trio.open_nursery() as nursery:
            while trio.current_time() < ends:
                await trio.sleep(random.uniform(0, 3))
                # Mostly the master is hit.
                node = self._cluster.master if random.random() < 0.7 else None
                node = node or random.choice(self._cluster.nodes)
                kind = random.choice(list(self.luck))
                if self._buried is not None and (kind == "bury" or node is self._buried):
                    continue
                self.luck[kind] += 1
                self.trace.note("weather", f"{kind} {node.port}")
                nursery.start_soon(self._befall, kind, node, random.uniform(0.1, 4), random)

    async def _befall(self, kind: str, node: Node, seconds: float, random: Random) -> None:
        cluster, faults = self._cluster, node.faults
        if kind == "kill":
            cluster.kill(node)
            await trio.sleep(seconds)
            if node is not self._buried:
                cluster.start(node)
        elif kind == "bury":
            self._buried = node
            cluster.kill(node)
        elif kind == "pause":
            with faults.pause():
                await trio.sleep(seconds)
        elif kind == "isolate":
            cluster.isolate(node)
            await trio.sleep(seconds)
            cluster.rejoin(node)
        elif kind == "cut off":
            self._cut_off[node] = None
            faults.kill_connections()
            await trio.sleep(seconds)
            self._cut_off.pop(node, None)
        else:
            cluster.lag(node, random.uniform(0, 2))
            await trio.sleep(seconds)
            cluster.lag(node, 0)

    async def _read(self, conn: Connection, stream: str) -> list[int]:
        while True:
            try:
                reader = conn.read_stream(stream, missing_ok=True, require_master=True)
                return [event.id.int async for event in reader]
            except ConnectionLost:
                await trio.sleep(0.1)


def _subscribe(conn: Connection, stream: str, after: int | None) -> object:
    return conn.subscribe(stream, after=after)

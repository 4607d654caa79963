"""`python -m tests.soak.failover --kills 50`: a cluster under load whose masters are killed, one after another.

All is in one process, over real sockets: three nodes, writers of several kinds, consumers of streams and of the log.
Each time that a master is killed, it is measured how long an append takes that begins at this moment.
"""

from __future__ import annotations

import argparse
import logging
import sys
from array import array
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import TYPE_CHECKING

import trio

from tests.soak.consumers import OURS, Consumer, follow, follow_batches, into, into_log
from tests.soak.ledger import Ledger, LogTrail, Verdict
from tests.soak.writers import CarefulWriter, CarelessWriter, RivalWriter, Writer
from trio_extreme import Settings, open_connection
from trio_extreme.embedded import open_cluster

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trio_extreme import Connection
    from trio_extreme.embedded import Cluster

FAILOVER = 0.1
"""Seconds until the cluster has another master."""
BREATH = 0.15
"""Seconds between a failover and the next kill at most."""
PATIENCE = 30.0
"""Seconds for everybody to have caught up in the end, on a machine that has other things to do."""

SHARED, CAREFUL, RIVALS, PROBED = (OURS + name for name in ("shared", "careful", "rivals", "probed"))
STREAMS = (SHARED, CAREFUL, RIVALS, PROBED)


@dataclass
class Outcome:
    """What became of it: `times` are the seconds from each kill to the first new acknowledged append."""

    times: list[float] = field(default_factory=list)
    verdict: Verdict | None = None
    acknowledged: int = 0
    doubtful: int = 0

    def __str__(self) -> str:
        return (
            f"{len(self.times)} masters killed, another one after {FAILOVER:g} s; from a kill to the first new "
            f"acknowledged append {median(self.times):.3f} s (median), {max(self.times):.3f} s (worst); "
            f"{self.acknowledged} events acknowledged, {self.doubtful} in doubt; {self.verdict}"
        )


class Failovers:
    """One run."""

    def __init__(self, cluster: Cluster, conns: tuple[Connection, Connection], seed: int, ledger: Ledger) -> None:
        self._cluster = cluster
        self._random = random = Random(seed)
        self._ledger = ledger
        writing, reading = conns
        kinds = ((CarelessWriter, SHARED), (CarelessWriter, SHARED), (CarefulWriter, CAREFUL))
        kinds += ((RivalWriter, RIVALS), (RivalWriter, RIVALS), (CarefulWriter, PROBED))
        made: list[Writer] = [
            kind(writing, ledger, stream, number, random) for number, (kind, stream) in enumerate(kinds, 1)
        ]
        *self._writers, self._probe = made
        log = LogTrail(ledger, "the log's")
        self._consumers = [
            *(
                Consumer(
                    follow,
                    lambda after, s=stream: reading.subscribe(s, after=after),
                    into(ledger.trail(stream, stream)),
                )
                for stream in STREAMS
            ),
            Consumer(follow_batches, lambda after: reading.subscribe_all(after=after), into_log(log)),
        ]
        for stream in STREAMS:
            log.trail(stream)

    async def run(self, kills: int) -> Sequence[float]:
        """Kill so many masters, and wait until all consumers have come to the end."""
        times = []
        async with trio.open_nursery() as consuming:
            for consumer in self._consumers:
                consuming.start_soon(consumer.run)
            enough = trio.Event()
            async with trio.open_nursery() as writing:
                for writer in self._writers:
                    writing.start_soon(_press, writer, enough)
                for _ in range(kills):
                    await trio.sleep(self._random.uniform(0, BREATH))
                    times.append(await self._kill())
                enough.set()
            with trio.fail_after(PATIENCE):
                await self._catch_up()
            consuming.cancel_scope.cancel()
        return times

    async def _catch_up(self) -> None:
        await trio.lowlevel.checkpoint()
        while self._ledger.behind():  # noqa: ASYNC110 - what is waited for has no event
            await trio.sleep(0.01)

    async def _kill(self) -> float:
        """Kill the master, and start it again when there is another one; how long nothing could be written."""
        await self._cluster.wait_for_master()
        killed = self._cluster.kill()
        began = trio.current_time()
        await self._probe.write()
        took = trio.current_time() - began
        self._cluster.start(killed)
        return took


async def _press(writer: Writer, enough: trio.Event) -> None:
    """Append without a pause: so there is always something under way when a master dies."""
    while not enough.is_set():
        await writer.write()


async def run_failovers(kills: int, seed: int) -> Outcome:
    """Run it all. What is wrong is told on standard error when it is noticed."""
    ledger, outcome = Ledger(lambda text: print(text, file=sys.stderr)), Outcome()  # noqa: T201 - its only log
    async with open_cluster(3, failover_time=FAILOVER, random=Random(seed)) as cluster:
        settings = settings_of(cluster)
        async with (
            open_connection(settings) as writing,
            open_connection(settings) as reading,
        ):
            outcome.times += await Failovers(cluster, (writing, reading), seed, ledger).run(kills)
            stored = await read_all(reading)
    outcome.verdict = ledger.judge(stored)
    outcome.acknowledged, outcome.doubtful = ledger.acknowledged_events, ledger.doubtful_events
    return outcome


async def read_all(conn: Connection) -> Mapping[str, array[int]]:
    """The codes of all events of all streams."""
    return {
        stream: array("Q", [event.id.int async for event in conn.read_stream(stream, missing_ok=True)])
        for stream in STREAMS
    }


def settings_of(cluster: Cluster) -> Settings:
    """Impatient ones, of who knows all nodes and asks them for the master."""
    return Settings(
        nodes=[node.settings.web_endpoint for node in cluster.nodes],
        username="admin",
        password="changeit",
        connect_timeout=1,
        identify_timeout=1,
        reconnect_delay=0.01,
        max_reconnect_delay=0.1,
        first_attempts=None,
        attempt_timeout=1,
        operation_timeout=15,
    )


def _main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args(arguments)
    # That connections are lost is no news here.
    logging.getLogger("trio_extreme").setLevel(logging.ERROR)
    print(trio.run(run_failovers, parsed.kills, parsed.seed))  # noqa: T201 - what it is for


if __name__ == "__main__":
    _main()

"""Clusters of which nodes die, stop and are cut off at random, while clients write: what was promised is so."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock

from tests.embedded.clustering import Awake, settle, small_cluster
from tests.embedded.talk import append, new_events, read_stream
from tests.simulation.determinism import run_deterministically
from trio_extreme.embedded.records import Place
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme.embedded import Cluster, Node

SECONDS = 45.0
STREAM = "people"


class Witness:
    """What clients of the cluster were told."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self._cluster = cluster
        self._random = random
        #: Ids of events, each with the number that it was acknowledged with.
        self.acknowledged: dict[bytes, int] = {}
        #: By number, the id of an event that somebody was shown.
        self.seen: dict[int, bytes] = {}

    async def write(self) -> None:
        """One append after another, to whatever node answers."""
        while True:
            await self._try(self._append)

    async def read(self) -> None:
        while True:
            await self._try(self._look)

    async def _try(self, call: Callable[[Awake], Awaitable[None]]) -> None:
        node = self._random.choice(self._cluster.nodes)
        with trio.move_on_after(self._random.uniform(0.01, 6)):
            try:
                talk = Awake(await self._cluster.connect(node.host, node.port))
            except ConnectionRefusedError:
                await trio.sleep(0.05)
                return
            try:
                for _ in range(self._random.randint(1, 20)):
                    await call(talk)
            except trio.BrokenResourceError:
                pass
            finally:
                await trio.aclose_forcefully(talk.stream)

    async def _append(self, talk: Awake) -> None:
        (event,) = new_events(1)
        request = append(STREAM, [event])
        request.require_master = self._random.random() < 0.5
        reply = await talk.ask(Command.WRITE_EVENTS, request)
        if reply is not None and reply.command == Command.WRITE_EVENTS_COMPLETED and not reply.message.result:
            self.acknowledged[event.event_id] = reply.message.first_event_number
        await trio.sleep(self._random.uniform(0, 0.2))

    async def _look(self, talk: Awake) -> None:
        start = self._random.randint(0, max(self.seen, default=0))
        reply = await talk.ask(Command.READ_STREAM_EVENTS_FORWARD, read_stream(STREAM, start))
        if reply is not None and isinstance(reply.message, schema.ReadStreamEventsCompleted):
            for indexed in reply.message.events:
                number, event_id = indexed.event.event_number, indexed.event.event_id
                assert self.seen.setdefault(number, event_id) == event_id, f"{number} was another one before"
        await trio.sleep(self._random.uniform(0, 0.3))


async def disturb(cluster: Cluster, random: Random, history: list[str]) -> None:
    """Let something happen to some node, now and then."""

    def kill(node: Node) -> None:
        node.faults.kill(random.uniform(0, 4))

    def pause(node: Node) -> None:
        node.faults.pause(random.uniform(0, 4))

    def restart(node: Node) -> None:
        node.faults.restart()

    def lag(node: Node) -> None:
        cluster.lag(node, random.choice([0, random.uniform(0, 2)]))

    while True:
        await trio.sleep(random.expovariate(0.7))
        happens = random.choice([kill, cluster.isolate, cluster.rejoin, cluster.rejoin, pause, restart, lag])
        node = random.choice(cluster.nodes)
        history.append(f"{trio.current_time():.6f} {happens.__name__} {node.port}")
        happens(node)


@dataclass
class Life:
    """A cluster's life, told by those who watched it, and what each node had in the end."""

    witness: Witness
    history: list[str] = field(default_factory=list)
    logs: list[list[bytes]] = field(default_factory=list)
    ends: set[tuple[int, int]] = field(default_factory=set)


async def _live(seed: int, size: int, seconds: float) -> Life:
    random = Random(seed)
    async with small_cluster(size, seed) as cluster:
        life = Life(Witness(cluster, random))
        witness = life.witness
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for task in (witness.write, witness.write, witness.write, witness.read):
                    nursery.start_soon(task)
                nursery.start_soon(disturb, cluster, random, life.history)
        for node in cluster.nodes:
            node.faults.clear()
            cluster.rejoin(node)
            cluster.lag(node, 0)
        await cluster.wait_for_master()
        await settle()
        for node in cluster.nodes:
            life.logs.append([record.id for record in node.store.storage.forward(Place(0, 0), 10_000)])
            life.ends.add((node.store.log.end, node.store.log.last))
    return life


def live(seed: int, size: int, seconds: float) -> Life:
    """The same each time."""
    lives: list[Life] = []

    async def main() -> None:
        lives.append(await _live(seed, size, seconds))

    run_deterministically(seed, MockClock(), main)
    return lives[0]


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 100))])
def test_nothing_that_was_acknowledged_or_seen_is_ever_lost(seed: int, size: int) -> None:
    life = live(seed, size, SECONDS)
    witness = life.witness
    assert len(life.history) > SECONDS / 3
    assert len(witness.acknowledged) > SECONDS / 3
    assert len(life.ends) == 1
    (log, *others) = life.logs
    assert others == [log] * (size - 1)
    assert len(set(log)) == len(log)
    for told in (witness.acknowledged, {event_id: number for number, event_id in witness.seen.items()}):
        assert {event_id: log.index(event_id) for event_id in told} == told


def test_the_same_seed_makes_the_same_life() -> None:
    first, second = [live(7, 3, 15) for _ in range(2)]
    assert (first.history, first.ends) == (second.history, second.ends)
    # The ids of events are counted on.
    assert list(first.witness.acknowledged.values()) == list(second.witness.acknowledged.values())

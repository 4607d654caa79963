"""Days on which consumers crash, stall and nak, and the node and the network fail: nothing is lost, and rules hold."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from trio_extreme import (
    START,
    ConsumerStrategy,
    GroupNotFound,
    NakAction,
    NewEvent,
    OutcomeUnknown,
    PersistentSettings,
    TrioExtremeError,
    open_connection,
)
from trio_extreme.embedded import VERSIONS, open_node, run_inline
from trio_extreme.embedded.groups_consumers import Consumer
from trio_extreme.embedded.groups_running import Group

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from trio.testing import MockClock

    from trio_extreme import Connection, PersistentEvent, PersistentSubscription
    from trio_extreme.embedded import Node

DAYS, ALL_DAYS = 4, 200
LONG_ENOUGH = 3000
PARKED, CHECKPOINTS = "$persistentsubscription-jobs::group-parked", "$persistentsubscription-jobs::group-checkpoint"


class Crash(Exception):
    """What happens to consumers."""


class Watch:
    """The rules that a group of the node keeps; it knows one group."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        acked: set[bytes] = set()
        begin, ack, push = Group.__init__, Group.ack, Consumer.push

        def begins(group: Group, *arguments: Any) -> None:
            acked.clear()
            begin(group, *arguments)

        def acks(group: Group, ids: Iterable[bytes]) -> None:
            ids = list(ids)
            acked.update(event_id for event_id in ids if event_id in group.outstanding)
            ack(group, ids)
            check_windows(group)

        def pushes(consumer: Consumer, message: Any) -> bool:
            assert message.id not in acked, f"{message} was acked"
            return push(consumer, message)

        monkeypatch.setattr(Group, "__init__", begins)
        monkeypatch.setattr(Group, "ack", acks)
        monkeypatch.setattr(Consumer, "push", pushes)


def check_windows(group: Group) -> None:
    """An event is with one consumer, and none has more than it asked for."""
    ids = [event_id for consumer in group.consumers for event_id in consumer.held]
    assert len(set(ids)) == len(ids)
    assert all(event_id in group.outstanding for event_id in ids)
    assert all(consumer.room == consumer.size - len(consumer.held) >= 0 for consumer in group.consumers)


class Day:
    """Events that are written one after another, and workers that share them, until all were handled or parked."""

    def __init__(self, random: Random, node: Node) -> None:
        self.random = random
        self.node = node
        self.settings = node.settings.replace(heartbeat_interval=1.0, heartbeat_timeout=1.0)
        self.count = random.randrange(20, 120)
        self.handled: set[int] = set()
        self.group = PersistentSettings(
            start_from=START,
            message_timeout=random.choice((1.0, 5.0)),
            max_retry_count=random.choice((3, 1000)),
            checkpoint_min_count=1,
            checkpoint_max_count=random.choice((7, 500)),
            buffer_size=random.choice((30, 500)),
            named_consumer_strategy=random.choice(list(ConsumerStrategy)[:3]),
        )

    async def run(self) -> None:
        async with open_connection(self.settings, connect=self.node.connect) as conn:
            await conn.ensure_persistent("jobs", "group", self.group)
            async with trio.open_nursery() as nursery:
                for _ in range(self.random.randrange(1, 5)):
                    nursery.start_soon(self.work)
                nursery.start_soon(self.fail, conn)
                await self.write(conn)
                while len(self.handled | await self.parked(conn)) < self.count:  # noqa: ASYNC110 - events have no event
                    await trio.sleep(5)
                nursery.cancel_scope.cancel()
            await self.handle_the_rest(conn)

    async def write(self, conn: Connection) -> None:
        for number in range(self.count):
            event = NewEvent("t")
            while True:
                try:
                    await conn.append("jobs", event, expected=number - 1)
                    break
                except OutcomeUnknown:
                    # Two sessions died of it. It is written once, however often it is asked for.
                    continue
            await trio.sleep(self.random.choice((0, 0, 0.1, 1)))

    async def work(self) -> None:
        """One worker after another, each with a connection of its own."""
        while True:
            try:
                async with open_connection(self.settings, connect=self.node.connect) as conn:
                    in_flight, fails = self.random.randrange(1, 20), self.random.choice((None, NakAction.RETRY))
                    async with conn.subscribe_persistent(
                        "jobs", "group", in_flight=in_flight, on_error=fails
                    ) as events:
                        async for event in events:
                            await self.handle(events, event)
            except (Crash, TrioExtremeError):
                await trio.sleep(0.2)

    async def handle(self, events: PersistentSubscription, event: PersistentEvent) -> None:
        await trio.sleep(self.random.choice((0, 0, 0, 0.01, 0.5, 7)))
        chance = self.random.random()
        if chance < 0.05:
            raise Crash
        if chance < 0.15:
            action = self.random.choice((NakAction.RETRY, NakAction.RETRY, NakAction.PARK))
            await events.nak(event, action=action)
        else:
            self.handled.add(event.number)
            await events.ack(event)

    async def fail(self, conn: Connection) -> None:
        faults, random = self.node.faults, self.random
        for _ in range(random.randrange(12)):
            await trio.sleep(random.uniform(0, 6))
            name = random.choice(("kill", "restart", "pause", "delay", "not ready", "update"))
            if name == "kill":
                faults.kill_connections()
            elif name == "restart":
                faults.restart(random.uniform(0, 2), graceful=random.choice((True, False)))
            elif name == "pause":
                faults.pause(random.uniform(0, 4))
            elif name == "delay":
                faults.delay(random.uniform(0, 0.5), lasting=3)
            elif name == "not ready":
                faults.not_ready(2)
            else:
                await conn.ensure_persistent("jobs", "group", self.group, update=True)

    async def parked(self, conn: Connection) -> set[int]:
        return {event.number async for event in conn.read_stream(PARKED, missing_ok=True)}

    async def handle_the_rest(self, conn: Connection) -> None:
        """What was acked too late, or under a connection that was lost, is there again; then the place is the end."""
        with trio.move_on_after(30):
            async with conn.subscribe_persistent("jobs", "group", in_flight=500) as events:
                async for event in events:
                    await events.ack(event)
        *_, last = [event async for event in conn.read_stream(CHECKPOINTS)]
        assert int(last.data.strip(b'"')) == self.count - 1
        await conn.delete_persistent("jobs", "group")
        with pytest.raises(GroupNotFound):
            await conn.delete_persistent("jobs", "group")


async def live_through(seed: int, path: Path) -> None:
    random = Random(seed)
    version = random.choice(list(VERSIONS))
    file = path / f"{seed}.db" if random.random() < 0.5 else None
    async with open_node(port=None, version=version, path=file, run_sync=run_inline, random=random) as node:
        with trio.fail_after(LONG_ENOUGH):
            await Day(random, node).run()
        assert repr(node._service.groups) == "<Groups: 0 groups, 0 consumers>"


@pytest.mark.parametrize("seed", range(DAYS))
async def test_nothing_is_lost(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    Watch(monkeypatch)
    await live_through(seed, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(DAYS, ALL_DAYS))
async def test_nothing_is_lost_on_any_of_many_days(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    Watch(monkeypatch)
    await live_through(seed, tmp_path)

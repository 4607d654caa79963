"""Live subscriptions to a node that breaks: what is written once they are back comes, after the gap was told."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.following import append, assert_silent, followed, take
from trio_extreme import Connection, Notice, OutcomeUnknown, Reconnected, open_connection

if TYPE_CHECKING:
    from trio_extreme.embedded import Node

pytestmark = pytest.mark.usefixtures("autojump_clock")

GAP = Reconnected(gap_possible=True)


async def test_the_log_too(conn: Connection, node: Node) -> None:
    async with conn.subscribe_all_live() as events:
        items = events.with_notices()
        await append(conn, 1)
        assert [(await anext(items)).number] == [0]
        node.faults.kill_connections()
        assert await take(items, 1) == [GAP]
        await append(conn, 2)
        assert [(await anext(items)).number for _ in range(2)] == [1, 2]
        await assert_silent(items)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("kill_connections", {}),
        ("half_open", {}),
        ("restart", {"down": 100}),
        ("restart", {"graceful": True}),
        ("restart", {"graceful": True, "down": 100}),
        ("pause", {"seconds": 100}),
    ],
)
async def test_after_each_fault(conn: Connection, node: Node, fault: str, options: dict[str, Any]) -> None:
    """For as long as it lasts; and told once."""
    await append(conn, 1)
    async with conn.subscribe_live("s") as events:
        items = events.with_notices()
        await append(conn, 2)
        assert await take(items, 2) == [1, 2]
        getattr(node.faults, fault)(**options)
        assert await take(items, 1) == [GAP]
        await append(conn, 2)
        assert await take(items, 2) == [3, 4]
        await assert_silent(items)


async def test_a_node_that_is_not_ready_for_long(conn: Connection, node: Node) -> None:
    await append(conn, 1)
    async with conn.subscribe_live("s") as events:
        node.faults.not_ready(100)
        node.faults.kill_connections()
        assert await take(events.with_notices(), 1) == [GAP]
        assert trio.current_time() >= 100
        await append(conn, 1)
        assert await take(events, 1) == [1]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_to_the_node(node: Node, seed: int) -> None:
    """What comes is in order, and between two numbers that do not follow each other a gap was told."""
    async with (
        open_connection(node.settings, connect=node.connect) as writer,
        open_connection(node.settings, connect=node.connect) as conn,
        followed(conn.subscribe_live("s")) as consumer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(write_for_ever, writer)
        await node.faults.play(Random(seed), seconds=60, rate=0.3, longest=3)
        await trio.sleep(60)
        last = await writer.last_number("s")
        await wait_all_tasks_blocked()
        assert consumer.error is None
        assert last is not None
        assert last <= consumer.numbers[-1] <= last + 1
        assert_gaps_are_told(consumer.seen)
        nursery.cancel_scope.cancel()


async def write_for_ever(conn: Connection) -> None:
    """What becomes of a single event does not matter."""
    while True:
        with trio.move_on_after(5), suppress(OutcomeUnknown):
            await append(conn, 1)
        await trio.sleep(0.1)


def assert_gaps_are_told(seen: list[Any]) -> None:
    assert GAP in seen
    before: Any = None
    for item in seen:
        if isinstance(item, Notice):
            before = None
        else:
            assert before is None or item == before + 1
            before = item

"""Consumers that are slower than their events: what is kept for them has a bound, and nobody else waits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.helpers import new_events
from tests.rows.consuming import (
    assert_server_pushes_nothing,
    connected,
    hear,
    soon,
    take,
    take_slowly,
    take_until_caught_up,
    write_singly,
)
from trio_extreme import CaughtUp, DropReason, FellBehind, NewEvent, SubscriptionDropped
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme import Connection, Subscription
    from trio_extreme.embedded import Node


# --- live


async def test_a_live_consumer_takes_its_time(conn: Connection) -> None:
    async with conn.subscribe_live("people") as events:
        await conn.append("people", new_events(2))
        assert await take_slowly(events, 2, 5.001) == [0, 1]


async def test_a_live_consumer_that_sleeps_keeps_the_connection(conn: Connection) -> None:
    async with conn.subscribe_live("people") as events:
        await conn.append("people", new_events(1))
        await trio.sleep(60)
        await conn.ping()
        assert await take(events, 1) == [0]
    assert conn.statistics().reconnects == 0


async def test_what_waits_for_a_live_consumer_is_bounded_in_events(node: Node) -> None:
    async with connected(node, live_buffer_events=10) as conn, conn.subscribe_live("people") as events:
        await write_singly(conn, 12)
        assert await take(events, 10) == list(range(10))
        await assert_overflowed(events)
        # It gets nothing more, and the server has been told.
        await conn.append("people", new_events(5))
        await assert_overflowed(events)
        await assert_server_pushes_nothing(conn)


async def test_what_waits_for_a_live_consumer_is_bounded_in_bytes(node: Node) -> None:
    large = [NewEvent("happened", bytes(1000)) for _ in range(12)]
    async with connected(node, live_buffer_bytes=10_000) as conn, conn.subscribe_live("people") as events:
        for event in large:
            await conn.append("people", event)
        assert conn.statistics().subscriptions[0].buffered_bytes <= 10_000
        numbers = await take(events, conn.statistics().subscriptions[0].buffered_events)
        assert numbers == list(range(len(numbers)))
        assert 5 < len(numbers) < 10
        await assert_overflowed(events)


async def assert_overflowed(events: Subscription[Any]) -> None:
    with pytest.raises(SubscriptionDropped) as info:
        await soon(events)
    assert info.value.reason is DropReason.OVERFLOW


# --- catching up


@pytest.mark.parametrize("setting", [{"buffer_events": 10}, {"buffer_bytes": 1000}])
async def test_a_flood_waits_in_the_store(setting: dict[str, int], node: Node) -> None:
    """A consumer asleep costs its buffer; awake, it gets each event."""
    async with connected(node, **setting) as conn, conn.subscribe("people", page_size=10) as events:
        await take_until_caught_up(events)
        for _ in range(50):
            await conn.append("people", new_events(10))
            (held,) = conn.statistics().subscriptions
            assert held.buffered_events <= 10
            assert held.buffered_bytes <= 1000
        await assert_server_pushes_nothing(conn, "places")
        heard = await hear(events, 502)
        assert [number for number in heard if isinstance(number, int)] == list(range(500))
        assert FellBehind() in heard
        assert heard[-1] == CaughtUp()
        # And live again.
        await conn.append("people", new_events(1))
        assert await hear(events, 1) == [500]


async def test_five_milliseconds_an_event_behind_a_fast_writer(node: Node) -> None:
    async with (
        connected(node, buffer_events=50) as conn,
        trio.open_nursery() as nursery,
        conn.subscribe("people", page_size=50) as events,
    ):
        nursery.start_soon(partial(write_singly, conn, 500, pause=0.001))
        assert await take_slowly(events, 500, 0.005) == list(range(500))


async def test_a_consumer_that_sleeps_disturbs_nobody(node: Node, nursery: trio.Nursery) -> None:
    settings = {"buffer_events": 10, "live_buffer_events": 10}
    async with connected(node, **settings) as conn, conn.subscribe("people"), conn.subscribe_live("people"):
        async with conn.subscribe("people") as sleeper, conn.subscribe("people") as events:
            await take_until_caught_up(sleeper)
            await take_until_caught_up(events)
            for number in range(100):
                await conn.append("people", new_events(1))
                assert await take(events, 1) == [number]
            await trio.sleep(60)
            await conn.ping()
            assert await take(sleeper, 100) == list(range(100))
        assert conn.statistics().reconnects == 0


# --- large events


async def test_pages_larger_than_a_frame_may_be(node: Node) -> None:
    async with connected(node) as writer:
        for _ in range(20):
            await writer.append("people", NewEvent("happened", bytes(20_000)))
        async with connected(node, max_frame_size=65_536) as conn, conn.subscribe("people") as events:
            assert await take_until_caught_up(events) == list(range(20))
            assert conn.statistics().reconnects == 0
            await writer.append("people", NewEvent("happened", bytes(20_000)))
            assert await take(events, 1) == [20]


async def test_a_page_that_kills_the_connection_is_asked_for_in_smaller_ones(conn: Connection, node: Node) -> None:
    await conn.append("people", new_events(2000))
    async with conn.subscribe("people", page_size=400) as events:
        batches = aiter(events.batches())
        sizes = [len(await soon(batches)) for _ in range(3)]
        # The next is here already.
        await trio.testing.wait_all_tasks_blocked()
        node.faults.drop_reply(Command.READ_STREAM_EVENTS_FORWARD, count=2, kill=True)
        while sum(sizes) < 2000:
            sizes.append(len(await soon(batches)))
    assert sizes[2] == sizes[3] == 400
    assert 0 < sizes[4] <= 400 / 4 / 4
    assert conn.statistics().reconnects == 2

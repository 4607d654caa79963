"""What Extreme's producers with back-pressure, and Kelvin on top of it, were made for: nothing lost, nothing twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import assert_nothing_left, new_events
from tests.peer import Call
from tests.rows.consuming import (
    assert_no_event,
    assert_silent,
    break_each,
    connected,
    hear,
    soon,
    take,
    take_slowly,
    take_until_caught_up,
    write_singly,
)
from trio_extreme import ANY, CaughtUp, FellBehind, Reconnected, StreamDeleted, StreamMissing

if TYPE_CHECKING:
    from trio_extreme import Connection
    from trio_extreme.embedded import Node

SMALL = {"page_size": 10, "buffer_events": 10}
"""Settings with which a consumer soon falls behind."""


# --- across a broken connection


async def test_written_while_the_connection_is_down(conn: Connection, node: Node, nursery: trio.Nursery) -> None:
    await conn.append("people", new_events(3))
    async with conn.subscribe("people") as events:
        assert await take_until_caught_up(events) == [0, 1, 2]
        node.faults.kill_connections()
        async with connected(node) as writer:
            # The clock stands still as long as anybody works, so nobody has connected again yet.
            await write_singly(writer, 50)
            assert conn.statistics().reconnects == 0
            consumer = Call(nursery, hear, events, 102)
            await trio.sleep(0.95)
            await write_singly(writer, 50)
        assert await consumer.value() == [Reconnected(gap_possible=False), *range(3, 53), CaughtUp(), *range(53, 103)]
        await assert_silent(events)


async def test_the_connection_breaks_again_and_again(conn: Connection, node: Node) -> None:
    """While pages are read, while it goes live, and live."""
    await conn.append("people", new_events(101))
    async with connected(node) as writer, trio.open_nursery() as nursery:
        nursery.start_soon(partial(write_singly, writer, 100, pause=0.05))
        nursery.start_soon(break_each, 0.12, node)
        async with conn.subscribe("people", page_size=10) as events:
            assert await take_slowly(events, 201, 0.01) == list(range(201))
            nursery.cancel_scope.cancel()
    assert conn.statistics().reconnects > 10


# --- more at once than is buffered


async def test_more_at_once_than_is_buffered(node: Node) -> None:
    async with connected(node, buffer_events=10) as conn, conn.subscribe("people", page_size=10) as events:
        assert await hear(events, 2) == [StreamMissing("people"), CaughtUp()]
        for first in range(0, 1000, 100):
            await conn.append("people", new_events(100))
            assert await hear(events, 102) == [FellBehind(), *range(first, first + 100), CaughtUp()]


async def test_on_a_soft_deleted_stream(node: Node) -> None:
    async with connected(node, **SMALL) as conn:
        await conn.append("people", new_events(3))
        await conn.delete_stream("people", expected=ANY)
        async with conn.subscribe("people") as events:
            assert await hear(events, 2) == [StreamMissing("people"), CaughtUp()]
            await conn.append("people", new_events(100))
            assert await hear(events, 102) == [FellBehind(), *range(3, 103), CaughtUp()]
            await assert_silent(events)


async def test_on_a_recreated_stream(node: Node) -> None:
    async with connected(node, **SMALL) as conn:
        await conn.append("people", new_events(3))
        await conn.delete_stream("people", expected=ANY)
        await conn.append("people", new_events(3))
        async with conn.subscribe("people") as events:
            assert await hear(events, 4) == [3, 4, 5, CaughtUp()]
            await conn.append("people", new_events(100))
            assert await hear(events, 102) == [FellBehind(), *range(6, 106), CaughtUp()]


async def test_on_a_hard_deleted_stream(node: Node) -> None:
    async with connected(node, **SMALL) as conn:
        await conn.append("people", new_events(3))
        await conn.delete_stream("people", expected=ANY, hard=True)
        async with conn.subscribe("people") as events, conn.subscribe("places") as others:
            with pytest.raises(StreamDeleted):
                await soon(events)
            await conn.append("places", new_events(1))
            assert await take(others, 1) == [0]
        assert_nothing_left(conn)


# --- several, and one after another


async def test_left_and_subscribed_again(conn: Connection) -> None:
    """It begins at exactly the first event that was not handled, whatever had come already."""
    await conn.append("people", new_events(5))
    async with conn.subscribe("people", page_size=2) as events:
        assert await take(events, 4) == [0, 1, 2, 3]
    await conn.append("people", new_events(2))
    async with conn.subscribe("people", after=2) as events:
        assert await hear(events, 5) == [3, 4, 5, 6, CaughtUp()]
        await conn.append("people", new_events(2))
        assert await take(events, 1) == [7]
    async with conn.subscribe("people", after=7) as events:
        assert await hear(events, 2) == [8, CaughtUp()]


async def test_two_consumers_of_one_stream(conn: Connection, node: Node) -> None:
    async with conn.subscribe("people") as events:
        async with conn.subscribe("people") as others:
            await conn.append("people", new_events(2))
            assert await take_until_caught_up(events) == await take_until_caught_up(others) == [0, 1]
            await conn.append("people", new_events(1))
        # What the other one was pushed and did not take is not missing here.
        assert await take(events, 1) == [2]
        node.faults.kill_connections()
        await conn.append("people", new_events(1))
        assert await take(events, 1) == [3]


# --- while somebody writes


@pytest.mark.parametrize("pause", [0, 0.001])
@pytest.mark.parametrize("head_start", [0, 0.1])
async def test_while_events_are_written_one_by_one(pause: float, head_start: float, node: Node) -> None:
    async with connected(node, **SMALL) as conn, trio.open_nursery() as nursery:
        await conn.append("people", new_events(200))
        nursery.start_soon(partial(write_singly, conn, 200, pause=pause))
        await trio.sleep(head_start)
        async with conn.subscribe("people") as events:
            assert await take_slowly(events, 400, 0.002) == list(range(400))
            await assert_no_event(events)


# --- at the consumer's pace


async def test_five_seconds_for_an_event(node: Node) -> None:
    """As long as no acknowledgement was ever waited for; heartbeats go on meanwhile."""
    async with connected(node, **SMALL) as conn, conn.subscribe("people") as events:
        await conn.append("people", new_events(3))
        assert await take_slowly(events, 3, 5.001) == [0, 1, 2]
        await conn.append("people", new_events(100))
        assert await take_slowly(events, 100, 5.001) == list(range(3, 103))
        assert conn.statistics().reconnects == 0


async def test_stored_events_then_live_ones(conn: Connection) -> None:
    await conn.append("people", new_events(101))
    async with conn.subscribe("people") as events:
        assert await hear(events, 102) == [*range(101), CaughtUp()]
        await write_singly(conn, 100)
        assert await hear(events, 100) == list(range(101, 201))


async def test_stored_events_then_live_ones_across_a_broken_connection(conn: Connection, node: Node) -> None:
    await conn.append("people", new_events(101))
    async with conn.subscribe("people") as events:
        assert await hear(events, 102) == [*range(101), CaughtUp()]
        await write_singly(conn, 50)
        node.faults.kill_connections()
        await write_singly(conn, 50)
        heard = await hear(events, 102)
        assert [number for number in heard if isinstance(number, int)] == list(range(101, 201))
        assert heard.count(Reconnected(gap_possible=False)) == heard.count(CaughtUp()) == 1


async def test_ten_milliseconds_an_event_in_pages_of_one(conn: Connection) -> None:
    await conn.append("people", new_events(101))
    async with conn.subscribe("people", page_size=1) as events, trio.open_nursery() as nursery:
        nursery.start_soon(partial(write_singly, conn, 100, pause=0.005))
        assert await take_slowly(events, 201, 0.01) == list(range(201))

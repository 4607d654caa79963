"""Callers and consumers that are cancelled: what was not sent never is, and nobody else notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.helpers import assert_nothing_left, new_events
from tests.peer import ANONYMOUS, Call, Peer, open_to
from tests.rows.consuming import assert_no_event, connected, lost, write_singly
from trio_extreme import ANY, NewEvent, OperationTimedOut, open_connection
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_extreme import Connection
    from trio_extreme.embedded import Node


# --- what was not sent


async def test_what_was_cancelled_while_offline_is_never_sent(conn: Connection, node: Node) -> None:
    with node.faults.refuse():
        node.faults.kill_connections()
        await lost(conn)
        with trio.move_on_after(1) as scope:
            await conn.append("people", new_events(1))
        assert scope.cancelled_caught
        assert trio.current_time() == 1
    await conn.append("people", new_events(2))
    assert await conn.last_number("people") == 1


async def test_what_timed_out_while_offline_is_never_sent(conn: Connection, node: Node) -> None:
    with node.faults.refuse():
        node.faults.kill_connections()
        await lost(conn)
        with pytest.raises(OperationTimedOut):
            await conn.append("people", new_events(1))
        assert trio.current_time() == 30
    await conn.append("people", new_events(2))
    assert await conn.last_number("people") == 1


async def test_what_was_cancelled_in_the_queue_is_never_sent(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        peer.hold()
        under_way = Call(nursery, conn.read_event, "s", 0)
        await trio.testing.wait_all_tasks_blocked()
        queued = Call(nursery, conn.append, "s", new_events(1))
        await trio.testing.wait_all_tasks_blocked()
        queued.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        peer.release()
        await conn.ping()
        under_way.scope.cancel()
    assert peer.commands() == [Command.READ_EVENT]


async def test_what_was_cancelled_at_the_door_is_never_sent(node: Node, nursery: trio.Nursery) -> None:
    async with connected(node, max_in_flight=1) as conn:
        with node.faults.pause():
            inside = Call(nursery, conn.append, "people", new_events(1))
            await trio.testing.wait_all_tasks_blocked()
            outside = Call(nursery, conn.append, "people", new_events(1))
            await trio.testing.wait_all_tasks_blocked()
            assert conn.statistics().waiting == 1
            outside.scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
        assert (await inside.value()).last == 0
        assert await conn.last_number("people") == 0


# --- what was


async def test_cancelled_at_any_moment_of_an_append(conn: Connection, node: Node, nursery: trio.Nursery) -> None:
    """While it is sent, looked for and looked for again; and the next caller gets its own answer."""
    for tenths in range(1, 40):
        with node.faults.delay(0.5):
            append = Call(nursery, conn.append, f"people-{tenths}", NewEvent("happened"), expected=ANY)
            with trio.move_on_after(tenths / 10):
                await break_twice(node)
                assert (await append.value()).last == 0
            append.scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert append.done
        assert (await conn.append(f"places-{tenths}", new_events(1))).last == 0
        assert await conn.last_number(f"people-{tenths}") == 0
        assert_nothing_left(conn)


async def break_twice(node: Node) -> None:
    """Before the first answer, and before that to the look which follows once the connection is back."""
    await trio.sleep(0.3)
    node.faults.kill_connections()
    await trio.sleep(1.4)
    node.faults.kill_connections()


async def test_cancelled_while_offline_and_asked_again(conn: Connection, node: Node) -> None:
    event = NewEvent("happened")
    with node.faults.refuse():
        node.faults.kill_connections()
        for _ in range(10):
            with trio.move_on_after(0.1):
                await conn.append("people", event)
        assert trio.current_time() == pytest.approx(1)
    with trio.fail_after(ANONYMOUS.max_reconnect_delay):
        assert (await conn.append("people", event)).last == 0


# --- connecting


@pytest.mark.parametrize("fault", ["refuse", "pause"])
async def test_cancelled_while_it_reconnects(fault: str, node: Node) -> None:
    """The connection is refused, or nobody answers on it."""
    with trio.move_on_after(10) as scope:
        async with open_connection(node.settings, connect=node.connect) as conn:
            getattr(node.faults, fault)()
            node.faults.kill_connections()
            await conn.ping()
    assert scope.cancelled_caught
    assert trio.current_time() < 10.5
    assert_nothing_left(conn)


# --- consumers


async def test_a_consumer_that_is_cancelled_all_the_time_loses_nothing(conn: Connection, node: Node) -> None:
    await conn.append("people", new_events(50))
    numbers: list[int] = []
    async with trio.open_nursery() as nursery, conn.subscribe("people", page_size=5) as events:
        nursery.start_soon(write_singly, conn, 50)
        with node.faults.delay(0.01):
            for turn in range(2000):
                with trio.move_on_after(0.001 * (turn % 23)):
                    numbers.append((await anext(events)).number)
                if turn in (100, 200):
                    node.faults.kill_connections()
        assert numbers == list(range(100))
        await assert_no_event(events)

"""Live subscriptions: what the server pushes from now on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.answers import Drop, confirm, dropped
from tests.helpers import assert_nothing_left, new_events
from tests.peer import ANONYMOUS, Call, Peer, open_to
from tests.rows.consuming import assert_no_event, assert_server_pushes_nothing, hear, take, take_ours
from trio_extreme import (
    ANY,
    AccessDenied,
    DropReason,
    Reconnected,
    StreamDeleted,
    StreamNotFound,
    SubscriptionDropped,
    open_connection,
)
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_extreme import Connection
    from trio_extreme.embedded import Node


# --- from now on


async def test_only_what_comes_after(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    async with conn.subscribe_live("people") as events:
        await conn.append("people", new_events(1000))
        assert await take(events, 1000) == list(range(3, 1003))
        await assert_no_event(events)
    assert_nothing_left(conn)


async def test_a_missing_stream(conn: Connection) -> None:
    async with conn.subscribe_live("people") as events:
        await conn.append("people", new_events(2))
        assert await take(events, 2) == [0, 1]


async def test_a_soft_deleted_stream(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    await conn.delete_stream("people", expected=ANY)
    async with conn.subscribe_live("people") as events:
        await conn.append("people", new_events(2))
        assert await take(events, 2) == [3, 4]


async def test_soft_deleted_while_live(conn: Connection) -> None:
    async with conn.subscribe_live("people") as events:
        await conn.append("people", new_events(2))
        assert await take(events, 2) == [0, 1]
        await conn.delete_stream("people", expected=ANY)
        with pytest.raises(StreamNotFound):
            await conn.read_event("people", 0)
        await assert_no_event(events)
        await conn.append("people", new_events(1))
        assert await take(events, 1) == [2]


async def test_hard_deleted_while_live(conn: Connection) -> None:
    async with conn.subscribe_live("people") as events:
        await conn.append("people", new_events(2))
        assert await take(events, 2) == [0, 1]
        await conn.delete_stream("people", expected=ANY, hard=True)
        with pytest.raises(StreamDeleted), trio.fail_after(0.01):
            await anext(events)
    assert_nothing_left(conn)
    await conn.ping()


async def test_a_hard_deleted_stream(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.delete_stream("people", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted):
        async with conn.subscribe_live("people") as events:
            await anext(events)
    assert_nothing_left(conn)


async def test_a_hard_delete_does_not_end_a_subscription_to_all(conn: Connection) -> None:
    async with conn.subscribe_all_live() as events:
        await conn.append("places", new_events(1))
        await conn.delete_stream("places", expected=ANY, hard=True)
        assert await take_ours(events, 2) == ["places", "places"]
        await conn.append("people", new_events(1))
        assert await take_ours(events, 1) == ["people"]


async def test_pushed_events_are_like_read_ones(conn: Connection) -> None:
    async with conn.subscribe_live("people") as events:
        await conn.append("people", new_events(1))
        pushed = await anext(events)
    read = await conn.read_event("people", 0)
    assert pushed == read
    for name in ("stream", "number", "id", "type", "data", "metadata", "created", "is_json", "checkpoint"):
        assert getattr(pushed, name) == getattr(read, name)


# --- who consumes


async def test_one_consumer_at_a_time(conn: Connection) -> None:
    async with conn.subscribe_live("people") as events, trio.open_nursery() as nursery:
        nursery.start_soon(assert_no_event, events)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(events)
        nursery.cancel_scope.cancel()


# --- how one ends


async def test_nothing_after_leaving(conn: Connection) -> None:
    async with conn.subscribe_live("people") as events:
        await conn.append("people", new_events(3))
        assert await take(events, 3) == [0, 1, 2]
    await assert_server_pushes_nothing(conn)


async def test_an_error_in_the_consumer_unsubscribes(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    peer = Peer()

    async def fail_in_a_subscription() -> None:
        async with conn.subscribe_live("s"):
            raise ZeroDivisionError

    async with open_to(peer) as conn:
        call = Call(nursery, fail_in_a_subscription)
        subscribed = await confirm(peer)
        assert isinstance(await call.error(), ZeroDivisionError)
        left = await peer.receive(Command.UNSUBSCRIBE_FROM_STREAM)
        assert left.correlation == subscribed.correlation


async def test_dropped_by_the_server(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Why is not known to us: no volatile subscription has a limit of consumers."""
    peer = Peer()
    async with open_to(peer) as conn:
        nursery.start_soon(confirm, peer)
        async with conn.subscribe_live("s") as events:
            (request,) = [one for one in peer.log if one.command == Command.SUBSCRIBE_TO_STREAM]
            peer.send(Command.SUBSCRIPTION_DROPPED, request.correlation, dropped(Drop.SubscriberMaxCountReached))
            with pytest.raises(SubscriptionDropped) as info:
                await anext(events)
        assert info.value.reason is DropReason.OTHER
        await conn.ping()


async def test_dropped_by_a_server_that_stops(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """As long as the connection is there, it is asked again."""
    peer = Peer()
    async with open_to(peer) as conn:
        nursery.start_soon(confirm, peer)
        async with conn.subscribe_live("s") as events:
            (request,) = [one for one in peer.log if one.command == Command.SUBSCRIBE_TO_STREAM]
            peer.send(Command.SUBSCRIPTION_DROPPED, request.correlation, dropped(Drop.Unsubscribed))
            await confirm(peer, then=[7])
            assert await hear(events, 2) == [Reconnected(gap_possible=True), 7]


async def test_access_denied(node: Node) -> None:
    async with open_connection(ANONYMOUS, connect=node.connect) as conn:
        with pytest.raises(AccessDenied):
            async with conn.subscribe_all_live():
                pytest.fail("it was let in")
        assert_nothing_left(conn)


async def test_events_in_one_packet_with_the_confirmation(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        nursery.start_soon(partial(confirm, peer, then=[5, 6]))
        async with conn.subscribe_live("s") as events:
            assert await take(events, 2) == [5, 6]

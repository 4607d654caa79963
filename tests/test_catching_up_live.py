"""Catch-up subscriptions once they are live: slow consumers, numbers that are not the next, streams that change."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.following import (
    READ,
    SUBSCRIBE,
    append,
    asked_from,
    assert_silent,
    confirm_now,
    followed,
    give,
    miss,
    open_on,
    open_to_each,
    opened,
    play,
    push,
    set_metadata,
    take,
    unsubscribed,
)
from tests.helpers import assert_nothing_left
from tests.peer import ANONYMOUS, Peer
from trio_extreme import (
    ANY,
    CaughtUp,
    Connection,
    FellBehind,
    StreamDeleted,
    StreamMissing,
    open_connection,
)
from trio_extreme.catching_up import PUSH_PATIENCE

if TYPE_CHECKING:
    from trio_extreme import Settings
    from trio_extreme.embedded import Node

pytestmark = pytest.mark.usefixtures("autojump_clock")

FEW = ANONYMOUS.replace(buffer_events=3)


# --- a consumer that is slow


@pytest.mark.parametrize(
    ("settings", "data"),
    [pytest.param(FEW, b"", id="events"), pytest.param(ANONYMOUS.replace(buffer_bytes=600), bytes(130), id="bytes")],
)
async def test_it_goes_back_to_pages_and_is_live_again(settings: Settings, data: bytes) -> None:
    async with opened("catching up", settings) as subscription:
        peer, items = subscription.peer, subscription.events.with_notices()
        await subscription.push_each(5, 6, 7, data=data)
        assert subscription.unsubscribed() == []
        await subscription.push_each(8, 9, data=data)
        # The server hears of it at once, not when the consumer comes to it.
        assert subscription.unsubscribed() == [subscription.request.correlation]
        (held,) = subscription.conn.statistics().subscriptions
        assert held.buffered_events == 3
        assert held.buffered_bytes <= 600
        del peer.handlers[READ], peer.handlers[SUBSCRIBE]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_the_rest, peer)
            assert await take(items, 8) == [5, 6, 7, FellBehind(), 8, 9, CaughtUp(), 10]
        assert asked_from(peer) == [5, 8]


async def give_the_rest(peer: Peer) -> None:
    await give(peer, 8, 9, end=True)
    await confirm_now(peer, 9, then=[10])


async def test_another_one_does_not_notice() -> None:
    async with opened("catching up", FEW) as subscription:
        other = await open_on(subscription.peer, subscription.conn, "catching up")
        for number in range(5, 20):
            await subscription.push(number)
            await other.push(number)
            assert await other.take(1) == [number]
        assert other.unsubscribed() == [subscription.request.correlation]
        await other.events.__aexit__(None, None, None)


async def test_too_much_is_pushed_while_the_rest_is_read() -> None:
    """It was not live yet, so it has not fallen behind: it reads on."""
    peer = Peer()
    async with open_to_each(peer, settings=FEW) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, end=True)
        request = await confirm_now(peer, 2, then=[3, 4])
        await push(peer, request, 5, 6)
        assert unsubscribed(peer) == [request.correlation]
        await give(peer, 1, 2)
        assert asked_from(peer) == [0, 1, 3]
        await give(peer, 3, 4, 5, 6, end=True)
        request = await confirm_now(peer, 6)
        await push(peer, request, 7)
        assert consumer.seen == [0, 1, 2, 3, 4, 5, 6, CaughtUp(), 7]


@pytest.mark.parametrize("last", [0, 1])
async def test_too_much_comes_with_the_confirmation(last: int) -> None:
    peer = Peer()
    async with open_to_each(peer, settings=FEW) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, end=True)
        request = await confirm_now(peer, last, then=[2, 3, 4, 5])
        # At once, and not when what comes before it was read.
        assert unsubscribed(peer) == [request.correlation]
        await give(peer, 1, 2, 3, 4, 5, end=last == 0)
        if last:
            await give(peer, end=True, last=5)
        await confirm_now(peer, 5)
        assert consumer.seen == [0, 1, 2, 3, 4, 5, CaughtUp()]


async def test_a_consumer_that_keeps_pace(node: Node) -> None:
    settings = node.settings.replace(buffer_events=10)
    async with open_connection(settings, connect=node.connect) as conn, followed(conn.subscribe("s")) as consumer:
        for first in range(0, 500, 10):
            await append(conn, 10, first)
            await wait_all_tasks_blocked()
        assert consumer.numbers == list(range(500))
        assert FellBehind() not in consumer.seen


@pytest.mark.parametrize("bounds", [{"buffer_events": 10}, {"buffer_bytes": 1500}])
async def test_a_slow_consumer_behind_a_fast_writer(node: Node, bounds: dict[str, Any]) -> None:
    """It falls behind again and again, and sees each event once; what it says of itself is in turns."""
    async with open_connection(node.settings.replace(**bounds), connect=node.connect) as conn:
        async with followed(conn.subscribe("s", page_size=20), pace=0.002) as consumer:
            for number in range(0, 1000, 2):
                await append(conn, 2, number)
                await trio.sleep(random_pause(number))
                (held,) = conn.statistics().subscriptions
                assert held.buffered_events <= bounds.get("buffer_events", 1000)
                assert held.buffered_bytes <= bounds.get("buffer_bytes", 10**6)
            await trio.sleep(10)
        assert consumer.numbers == list(range(1000))
        assert_in_turns([notice for notice in consumer.notices if notice != StreamMissing("s")])
        assert consumer.notices.count(FellBehind()) > 3


def random_pause(number: int) -> float:
    """Mostly none, sometimes enough to catch up."""
    return 0.2 if number % 100 == 0 else 0.0005


def assert_in_turns(notices: list[Any]) -> None:
    assert notices[::2] == [CaughtUp()] * len(notices[::2])
    assert notices[1::2] == [FellBehind()] * len(notices[1::2])


async def test_one_append_may_be_more_than_the_bound(node: Node) -> None:
    settings = node.settings.replace(buffer_events=10)
    async with open_connection(settings, connect=node.connect) as conn, followed(conn.subscribe("s")) as consumer:
        for first in range(0, 100, 20):
            await append(conn, 20, first)
            await trio.sleep(1)
        assert consumer.numbers == list(range(100))


async def test_a_consumer_that_sleeps_for_ever(node: Node) -> None:
    """It costs what the bounds say, and leaving takes no time."""
    settings = node.settings.replace(buffer_events=10)
    async with open_connection(settings, connect=node.connect) as conn:
        async with followed(conn.subscribe("s"), pace=1e9):
            await append(conn, 1)
            await wait_all_tasks_blocked()
            for first in range(1, 1000, 10):
                await append(conn, 10, first)
            await conn.ping()
            before = trio.current_time()
            (held,) = conn.statistics().subscriptions
            assert held.buffered_events <= 10
        assert trio.current_time() - before < 0.1
        assert_nothing_left(conn)


async def test_who_does_not_listen_for_notices_finds_it_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_extreme")
    async with opened("catching up", FEW) as subscription:
        await subscription.push_each(5, 6, 7, 8)
        play(subscription.peer, then=(5,))
        assert await subscription.take(3) == [5, 6, 7]
        await assert_silent(subscription.events, 1)
    assert "the consumer of stream 's' fell behind" in caplog.text


# --- numbers that are not the next


async def test_what_was_seen_already_is_left_out() -> None:
    async with opened("catching up") as subscription:
        await subscription.push(3, 4, 5, 6)
        await subscription.push(5, 6, 7)
        assert await subscription.take(3) == [5, 6, 7]
        await assert_silent(subscription.events, 5)


async def test_a_gap_is_read() -> None:
    """The feed stays open meanwhile, and what it brings beyond the gap comes after it."""
    async with opened("catching up") as subscription:
        peer, items = subscription.peer, subscription.events.with_notices()
        del peer.handlers[READ]
        await subscription.push(5, 8)
        await subscription.push(9)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_more, peer, 6, 7, 8)
            assert await take(items, 4) == [5, 6, 7, 8]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_more, peer, 9, 10)
            assert await take(items, 2) == [9, 10]
        await subscription.push(10, 11)
        assert await take(items, 1) == [11]
        assert subscription.unsubscribed() == []
        assert peer.commands().count(SUBSCRIBE) == 1


async def test_a_gap_that_can_never_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """Pages bring neither that nor what was pushed: after a while the latter is handed out, and the log says so."""
    async with opened("catching up") as subscription:
        items = subscription.events.with_notices()
        await subscription.push(5, 8, 9)
        assert await take(items, 1) == [5]
        began = trio.current_time()
        assert await take(items, 2) == [8, 9]
        assert PUSH_PATIENCE <= trio.current_time() - began < PUSH_PATIENCE + 1
        [record] = caplog.records
        assert record.message.startswith("stream 's': pages do not come as far as what is pushed; going on with 8")
        await subscription.push(10)
        assert await take(items, 1) == [10]


async def test_a_gap_in_a_stream_that_is_gone() -> None:
    async with opened("catching up") as subscription:
        peer, items = subscription.peer, subscription.events.with_notices()
        del peer.handlers[READ]
        await subscription.push(8, 9)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(miss, peer, 9)
            assert await take(items, 3) == [StreamMissing("s"), 8, 9]
        await subscription.push(10)
        assert await take(items, 1) == [10]


async def give_more(peer: Peer, *numbers: int) -> None:
    await give(peer, *numbers, end=True)


# --- what becomes of the stream


async def open_live(conn: Connection, stored: int) -> tuple[Any, Any]:
    await append(conn, stored)
    events = conn.subscribe("s", page_size=2)
    items = (await events.__aenter__()).with_notices()
    assert await take(items, stored + 1) == [*range(stored), CaughtUp()]
    return events, items


async def test_soft_deleted_and_written_again(conn: Connection) -> None:
    events, items = await open_live(conn, 3)
    await conn.delete_stream("s", expected=ANY)
    await assert_silent(items)
    await append(conn, 2)
    assert await take(items, 2) == [3, 4]
    await assert_silent(items)
    await events.__aexit__(None, None, None)


@pytest.mark.parametrize("metadata", [{"tb": 3}, {"tb": 1}, {"maxCount": 1}])
async def test_truncated(conn: Connection, metadata: dict[str, int]) -> None:
    events, items = await open_live(conn, 3)
    await set_metadata(conn, **metadata)
    await append(conn, 4)
    assert await take(items, 4) == [3, 4, 5, 6]
    await assert_silent(items)
    await events.__aexit__(None, None, None)


async def test_hard_deleted(conn: Connection) -> None:
    events, items = await open_live(conn, 3)
    await append(conn, 1)
    await conn.delete_stream("s", expected=ANY, hard=True)
    assert await take(items, 1) == [3]
    for _ in range(2):
        with pytest.raises(StreamDeleted), trio.fail_after(0.01):
            await anext(items)
    await events.__aexit__(None, None, None)

"""Catch-up subscriptions to streams that are missing, deleted, truncated, or made of links."""

from __future__ import annotations

import pytest
import trio

from tests.following import (
    append,
    assert_silent,
    confirm_now,
    followed,
    give,
    miss,
    open_to_each,
    push,
    set_metadata,
    take,
    take_until,
    unsubscribed,
)
from tests.helpers import new_events
from tests.peer import Peer
from trio_extreme import (
    ANY,
    NO_STREAM,
    CaughtUp,
    Connection,
    NewEvent,
    Reconnected,
    StreamDeleted,
    StreamMissing,
)

pytestmark = pytest.mark.usefixtures("autojump_clock")

MISSING = StreamMissing("s")


# --- streams that are not there, or not all of them


async def test_a_stream_that_is_missing(conn: Connection) -> None:
    async with conn.subscribe("s") as events:
        items = events.with_notices()
        assert await take(items, 2) == [MISSING, CaughtUp()]
        await assert_silent(items)
        await append(conn, 2)
        assert await take(items, 2) == [0, 1]
        await assert_silent(items)


async def test_a_stream_that_is_written_just_then() -> None:
    """Missing when it was read, there when it was confirmed."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await miss(peer)
        await confirm_now(peer, 1, then=[2])
        await give(peer, 0, 1, end=True)
        assert consumer.seen == [MISSING, 0, 1, CaughtUp(), 2]


async def test_a_stream_that_is_missing_twice() -> None:
    """It was there between, and pages brought it: so it is told again."""
    first, second = Peer(), Peer()
    async with open_to_each(first, second) as conn, followed(conn.subscribe("s")) as consumer:
        await miss(first)
        await confirm_now(first, 0)
        await give(first, 0, end=True)
        first.hang_up()
        await miss(second, 0)
        await confirm_now(second, 0)
        assert consumer.seen == [MISSING, 0, CaughtUp(), Reconnected(gap_possible=False), MISSING, CaughtUp()]


async def test_a_stream_that_was_soft_deleted(conn: Connection) -> None:
    await append(conn, 3)
    await conn.delete_stream("s", expected=ANY)
    async with conn.subscribe("s", page_size=2) as events:
        items = events.with_notices()
        assert await take(items, 2) == [MISSING, CaughtUp()]
        await append(conn, 2)
        assert await take(items, 2) == [3, 4]
        await assert_silent(items)


async def test_a_stream_that_was_written_again_after_it_was_soft_deleted(conn: Connection) -> None:
    await append(conn, 3)
    await conn.delete_stream("s", expected=ANY)
    await append(conn, 3)
    async with conn.subscribe("s", page_size=2) as events:
        assert await take(events.with_notices(), 4) == [3, 4, 5, CaughtUp()]


async def test_soft_deleted_and_written_again_after_it_was_confirmed() -> None:
    """The pages say that it is missing, and what is pushed begins beyond all of them."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await miss(peer, 4)
        request = await confirm_now(peer, 4)
        await miss(peer, 4)
        assert consumer.seen == [MISSING, CaughtUp()]
        await push(peer, request, 5)
        await give(peer, following=5, last=5)
        await give(peer, 5, end=True)
        await push(peer, request, 6)
        assert consumer.seen == [MISSING, CaughtUp(), 5, 6]


@pytest.mark.parametrize(("name", "value"), [("tb", 40), ("maxCount", 10)])
async def test_a_stream_that_was_truncated(conn: Connection, name: str, value: int) -> None:
    """Its first pages are empty, and not its end."""
    await append(conn, 50)
    await set_metadata(conn, **{name: value})
    async with conn.subscribe("s", page_size=3) as events:
        items = events.with_notices()
        assert await take(items, 11) == [*range(40, 50), CaughtUp()]
        await append(conn, 1)
        assert await take(items, 1) == [50]


@pytest.mark.parametrize(("name", "value"), [("tb", 40), ("maxCount", 10)])
async def test_truncated_while_it_is_read(conn: Connection, name: str, value: int) -> None:
    await append(conn, 50)
    async with conn.subscribe("s", page_size=8) as events:
        items = events.with_notices()
        assert await take(items, 4) == [0, 1, 2, 3]
        await set_metadata(conn, **{name: value})
        # The page in hand, and the one that was under way.
        assert await take_until(items, CaughtUp()) == [*range(4, 16), *range(40, 50), CaughtUp()]


async def test_truncated_to_nothing(conn: Connection) -> None:
    await append(conn, 50)
    await set_metadata(conn, tb=50)
    async with conn.subscribe("s") as events:
        items = events.with_notices()
        assert await take(items, 1) == [CaughtUp()]
        await append(conn, 1)
        assert await take(items, 1) == [50]


async def test_a_stream_that_was_hard_deleted(conn: Connection) -> None:
    await append(conn, 3)
    await conn.delete_stream("s", expected=ANY, hard=True)
    async with conn.subscribe("s") as events:
        with pytest.raises(StreamDeleted), trio.fail_after(0.01):
            await anext(events.with_notices())
        assert conn.statistics().in_flight == 0


async def test_hard_deleted_while_it_is_read(conn: Connection) -> None:
    await append(conn, 50)
    async with conn.subscribe("s", page_size=8) as events:
        items = events.with_notices()
        assert await take(items, 4) == [0, 1, 2, 3]
        await conn.delete_stream("s", expected=ANY, hard=True)
        # What was read before it comes.
        assert await take(items, 12) == list(range(4, 16))
        for _ in range(2):
            with pytest.raises(StreamDeleted), trio.fail_after(0.01):
                await anext(items)


async def test_hard_deleted_just_before_it_is_subscribed_to() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, end=True)
        request = await confirm_now(peer, 2**63 - 1)
        assert consumer.seen == [0]
        assert isinstance(consumer.error, StreamDeleted)
        assert unsubscribed(peer) == [request.correlation]


# --- links


async def make_links(conn: Connection) -> None:
    """Events of three streams through links, whose numbers are others; every second of them leads nowhere."""
    await append(conn, 6)
    await conn.append("gone", new_events(3))
    links = [f"{number}@{stream}" for number in (5, 3, 1) for stream in ("s", f"gone-{number}")]
    await conn.append("links", [NewEvent("$>", link.encode()) for link in links], expected=NO_STREAM)


async def test_links_count_by_their_own_numbers(conn: Connection) -> None:
    await make_links(conn)
    async with conn.subscribe("links", page_size=2) as events:
        seen = [(event.checkpoint, event.number, event.resolved) for event in [await anext(events) for _ in range(6)]]
        assert [checkpoint for checkpoint, _, _ in seen] == list(range(6))
        assert [number for _, number, resolved in seen if resolved] == [5, 3, 1]
        assert await take(events.with_notices(), 1) == [CaughtUp()]
        # Live, too, where the next one's target has a number that came before.
        await conn.append("links", [NewEvent("$>", b"5@s"), NewEvent("$>", b"0@nowhere"), NewEvent("$>", b"4@s")])
        live = [await anext(events) for _ in range(3)]
        assert [(event.checkpoint, event.resolved) for event in live] == [(6, True), (7, False), (8, True)]
        await assert_silent(events)


async def test_links_from_a_checkpoint_on(conn: Connection) -> None:
    await make_links(conn)
    async with conn.subscribe("links", after=2) as events:
        assert await take(events, 3) == [3, 4, 5]


async def test_links_themselves(conn: Connection) -> None:
    await make_links(conn)
    async with conn.subscribe("links", resolve_links=False) as events:
        event = await anext(events)
        assert (event.type, event.data, event.number, event.link) == ("$>", b"5@s", 0, None)

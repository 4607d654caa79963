"""Catch-up subscriptions: where one begins, the pages it reads, and that nothing lies between them and what is live."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import page
from tests.following import (
    READ,
    READ_BACK,
    READ_BACK_COMPLETED,
    READ_COMPLETED,
    SUBSCRIBE,
    UNSUBSCRIBE,
    append,
    asked_from,
    assert_silent,
    confirm_now,
    followed,
    give,
    open_to_each,
    play,
    push,
    take,
    take_until,
)
from tests.helpers import assert_nothing_left
from tests.leaks import tasks_below
from tests.peer import ANONYMOUS, Peer, open_to
from trio_extreme import (
    ANY,
    END,
    START,
    CaughtUp,
    Connection,
    Credentials,
    FrameTooLarge,
    InvalidArgument,
    StreamDeleted,
)
from trio_extreme.catching_up import PATIENCE
from trio_extreme.wire import schema

pytestmark = pytest.mark.usefixtures("autojump_clock")


# --- pages, then live


async def test_pages_then_live() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s", page_size=2)) as consumer:
        await give(peer, 0, 1)
        await give(peer, 2, end=True)
        request = await confirm_now(peer, 2)
        await push(peer, request, 3, 4)
        assert consumer.seen == [0, 1, 2, CaughtUp(), 3, 4]
    assert peer.commands() == [READ, READ, SUBSCRIBE, UNSUBSCRIBE]
    assert asked_from(peer) == [0, 2]


async def test_written_between_the_last_page_and_the_confirmation() -> None:
    """What neither the page nor the server's pushing has is read: the commonest way to lose events."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, 1, end=True)
        await confirm_now(peer, 4)
        assert consumer.seen == [0, 1]
        await give(peer, 2, 3)
        await give(peer, 4, end=True)
        assert consumer.seen == [0, 1, 2, 3, 4, CaughtUp()]
    assert asked_from(peer) == [0, 2, 4]


async def test_pushed_while_the_rest_is_read() -> None:
    """Pages bring some of it too: each comes once."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, 1, end=True)
        request = await confirm_now(peer, 4, then=[5, 6])
        await give(peer, 2, 3, 4, 5)
        await push(peer, request, 7)
        assert consumer.seen == [0, 1, 2, 3, 4, 5, CaughtUp(), 6, 7]
    # Live, it asks for no page ahead.
    assert asked_from(peer) == [0, 2]


async def test_pages_bring_all_that_was_pushed() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, end=True)
        request = await confirm_now(peer, 2, then=[3, 4])
        await give(peer, 1, 2, 3, 4, 5, end=True)
        await push(peer, request, 5)
        await push(peer, request, 6)
        assert consumer.seen == [0, 1, 2, 3, 4, 5, CaughtUp(), 6]


async def test_the_end_cannot_be_read_yet() -> None:
    """Servers count an event a little before they show it: it is asked for again, and not without a pause."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, end=True)
        await confirm_now(peer, 2)
        await give(peer, 1, end=True)
        # What can be read is not held back.
        assert consumer.seen == [0, 1]
        assert trio.current_time() == 0
        for _ in range(5):
            await give(peer, end=True, last=1)
        assert 0 < trio.current_time() < 0.1
        await give(peer, 2, end=True)
        assert consumer.seen == [0, 1, 2, CaughtUp()]


async def test_the_end_can_never_be_read() -> None:
    """After a while it is live all the same. Should the event come to light after all, the next one's number tells."""
    peer = Peer()
    nothing = page((), 1, end=True, last=0)
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, end=True)
        peer.handlers[READ] = lambda asked: peer.send(READ_COMPLETED, asked.correlation, nothing)
        request = await confirm_now(peer, 1)
        await trio.sleep(PATIENCE + 0.3)
        assert consumer.seen == [0, CaughtUp()]
        assert len(asked_from(peer)) < 25
        del peer.handlers[READ]
        await push(peer, request, 2)
        await give(peer, 1, 2, end=True)
        await push(peer, request, 3)
        assert consumer.seen == [0, CaughtUp(), 1, 2, 3]
    assert peer.commands().count(SUBSCRIBE) == 1


@pytest.mark.parametrize("size", [1, 2, 4096])
async def test_all_that_is_stored_then_all_that_is_written(conn: Connection, size: int) -> None:
    await append(conn, 7)
    async with conn.subscribe("s", page_size=size) as events:
        items = events.with_notices()
        assert await take(items, 8) == [0, 1, 2, 3, 4, 5, 6, CaughtUp()]
        await append(conn, 100, 7)
        assert await take(items, 100) == list(range(7, 107))
        await assert_silent(items)


async def test_in_lists(conn: Connection) -> None:
    await append(conn, 7)
    async with conn.subscribe("s", page_size=3) as events:
        batches = events.batches()
        assert [[event.number for event in await anext(batches)] for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]


async def test_while_somebody_writes(conn: Connection, nursery: trio.Nursery) -> None:
    async def write() -> None:
        for number in range(200):
            await append(conn, 1, number)

    nursery.start_soon(write)
    async with conn.subscribe("s", page_size=2) as events:
        assert await take(events, 200) == list(range(200))
        await assert_silent(events)


# --- where it begins


async def test_entering_asks_for_nothing() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn:
        for place in ({}, {"start": 7}, {"start": START}, {"after": 6}, {"after": None}):
            async with conn.subscribe("s", **place):  # type: ignore[arg-type]
                await trio.sleep(1)
    assert peer.commands() == []


@pytest.mark.parametrize(
    ("place", "first"), [({}, 0), ({"start": 3}, 3), ({"after": 3}, 4), ({"after": None}, 0), ({"start": START}, 0)]
)
async def test_start_is_inclusive_and_after_is_not(conn: Connection, place: dict[str, Any], first: int) -> None:
    await append(conn, 7)
    async with conn.subscribe("s", **place) as events:
        assert await take_until(events, 6) == list(range(first, 7))


async def test_places_that_say_two_things() -> None:
    async with open_to(Peer()) as conn:
        for start in (0, 7, END):
            with pytest.raises(InvalidArgument, match=r"^after: 3 is given, and start="):
                conn.subscribe("s", start=start, after=3)
        with pytest.raises(InvalidArgument, match=r"^on_ahead: "):
            conn.subscribe("s", on_ahead="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("before", ["nothing", "events", "deleted events"])
async def test_from_the_end_on(conn: Connection, before: str) -> None:
    """END is where the end was when the block was entered, so that nothing is between it and the first page."""
    if before != "nothing":
        await append(conn, 3)
    if before == "deleted events":
        await conn.delete_stream("s", expected=ANY)
    async with conn.subscribe("s", start=END) as events:
        await append(conn, 2)
        first = 0 if before == "nothing" else 3
        assert await take(events.with_notices(), 3) == [first, first + 1, CaughtUp()]


async def test_from_the_end_of_a_hard_deleted_stream(conn: Connection) -> None:
    await conn.delete_stream("s", expected=ANY, hard=True)
    events = conn.subscribe("s", start=END)
    with pytest.raises(StreamDeleted):
        await events.__aenter__()
    assert_nothing_left(conn)


async def test_the_end_is_asked_for_once() -> None:
    ops = Credentials("ops", "secret")
    peer = Peer()
    peer.handlers[READ_BACK] = lambda request: peer.send(
        READ_BACK_COMPLETED, request.correlation, page([41], 40, last=41)
    )
    async with open_to_each(peer) as conn:
        events = conn.subscribe("s", start=END, require_master=True, credentials=ops)
        async with followed(events):
            await give(peer, end=True)
            await confirm_now(peer, 41)
    (asked, *_) = [request for request in peer.log if request.command == READ_BACK]
    assert asked.credentials == ops
    assert asked.message == schema.ReadStreamEvents(
        event_stream_id="s", from_event_number=-1, max_count=1, resolve_link_tos=False, require_master=True
    )
    assert peer.commands() == [READ_BACK, READ, SUBSCRIBE, UNSUBSCRIBE]
    assert asked_from(peer) == [42]


# --- what is asked, and as whom


async def test_what_was_said_goes_with_every_request() -> None:
    peer, ops = Peer(), Credentials("ops", "secret")
    async with open_to_each(peer) as conn:
        events = conn.subscribe("s", resolve_links=False, require_master=True, page_size=7, credentials=ops)
        async with followed(events):
            first = await give(peer, 0)
            ahead = await give(peer, 1, end=True)
            await confirm_now(peer, 1)
    for number, asked in enumerate((first, ahead)):
        assert asked == schema.ReadStreamEvents(
            event_stream_id="s", from_event_number=number, max_count=7, resolve_link_tos=False, require_master=True
        )
    requests = {request.command: request for request in peer.log}
    assert requests[SUBSCRIBE].message == schema.SubscribeToStream(event_stream_id="s", resolve_link_tos=False)
    assert requests[READ].credentials == requests[SUBSCRIBE].credentials == ops


async def test_what_is_asked_where_nothing_was_said() -> None:
    peer = Peer()
    async with open_to_each(peer, settings=ANONYMOUS.replace(page_size=3)) as conn, followed(conn.subscribe("s")):
        asked = await give(peer, end=True)
        await confirm_now(peer, -1)
    assert (asked.max_count, asked.resolve_link_tos, asked.require_master) == (3, True, False)
    assert [request.credentials for request in peer.log if request.command == SUBSCRIBE] == [None]


async def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones() -> None:
    peer = Peer()
    async with (
        open_to_each(peer, settings=ANONYMOUS.replace(max_frame_size=1024)) as conn,
        followed(conn.subscribe("s")) as consumer,
    ):
        assert (await give(peer, 0, 1, 2, 3, 4, 5, 6, 7, size=200)).max_count == 8
        assert (await give(peer, 0, 1, size=200)).max_count == 2
        assert consumer.seen == [0, 1]
        for count in (2, 1):
            assert (await give(peer, 2, size=2000)).max_count == count
        assert isinstance(consumer.error, FrameTooLarge)


# --- the next page


async def test_the_next_page_is_under_way_while_the_consumer_works() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s"), pace=5) as consumer:
        await give(peer, 0, 1)
        assert consumer.seen == [0]
        assert asked_from(peer) == [0, 2]
        await give(peer, 2, 3, end=True)
        await trio.sleep(9)
        assert consumer.seen == [0, 1]
        # One is enough.
        assert asked_from(peer) == [0, 2]
        await trio.sleep(2)
        assert consumer.seen == [0, 1, 2]


async def test_left_with_a_page_under_way() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn:
        async with conn.subscribe("s") as events:
            play(peer)
            del peer.handlers[READ]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(give, peer, 0, 1)
                assert await take(events, 1) == [0]
        assert_nothing_left(conn)
        assert asked_from(peer) == [0, 2]
        # Its answer finds nobody.
        await give(peer, 2, 3)
        await wait_all_tasks_blocked()
        assert conn.statistics().stray_frames == 1
        assert await take(events, 1) == [1]


async def test_no_task_of_its_own(conn: Connection) -> None:
    await append(conn, 3)
    root = trio.lowlevel.current_root_task()
    assert root is not None
    before = len(list(tasks_below(root)))
    subscriptions = [conn.subscribe("s") for _ in range(10)]
    for events in subscriptions:
        await events.__aenter__()
        assert await take(events.with_notices(), 4) == [0, 1, 2, CaughtUp()]
    assert len(list(tasks_below(root))) == before
    for events in subscriptions:
        await events.__aexit__(None, None, None)


# --- what can be seen of it


async def test_how_far_behind_it_is() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s"), pace=5):

        def now() -> tuple[int, int | None]:
            (statistics,) = conn.statistics().subscriptions
            assert statistics.stream == "s"
            return statistics.buffered_events, statistics.lag

        assert now() == (0, 0)
        await give(peer, 0, 1, last=9)
        assert now() == (0, 8)
        await give(peer, 2, 3, following=10, end=True, last=9)
        await trio.sleep(20)
        request = await confirm_now(peer, 9)
        await push(peer, request, 10, 11)
        assert now() == (2, 2)
        await trio.sleep(6)
        assert now() == (0, 0)


async def test_as_text() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn:
        assert repr(conn.subscribe("s")) == "<CatchUpSubscription to stream 's': 0 events buffered>"
        assert repr(conn.subscribe_all()) == "<CatchUpSubscription to the log of all streams: 0 events buffered>"

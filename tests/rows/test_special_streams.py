"""Subscriptions to streams of links, truncated ones, those with rights, and events that are unlike others."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.helpers import new_events
from tests.peer import Call
from tests.rows.consuming import (
    assert_no_event,
    break_each,
    connected,
    hear,
    soon,
    take,
    take_slowly,
    take_until_caught_up,
    write_singly,
)
from trio_extreme import (
    ANY,
    END,
    AccessDenied,
    CaughtUp,
    Credentials,
    Event,
    FrameTooLarge,
    NewEvent,
)

if TYPE_CHECKING:
    from trio_extreme import Connection, Subscription
    from trio_extreme.embedded import Node


# --- links


async def link_people(conn: Connection, count: int) -> None:
    """Links to so many events, after two events of the stream's own."""
    await conn.append("people", new_events(count))
    await conn.append("links", new_events(2))
    async for event in conn.read_stream("people"):
        await conn.append("links", NewEvent.link(event))


async def test_links_are_counted_by_their_own_numbers(conn: Connection) -> None:
    await link_people(conn, 3)
    async with conn.subscribe("links", page_size=2) as events:
        read = [await soon(events) for _ in range(5)]
        await conn.append("people", new_events(1))
        await conn.append("links", NewEvent.link(await conn.read_event("people", 3)))
        read.append(await soon(events))
    assert [(event.stream, event.number) for event in read[2:]] == [("people", number) for number in range(4)]
    assert [event.checkpoint for event in read] == list(range(6))
    async with conn.subscribe("links", after=read[3].checkpoint) as events:
        assert await take_until_caught_up(events) == [2, 3]
    async with conn.subscribe("links", start=3, resolve_links=False) as events:
        assert await take_until_caught_up(events) == [3, 4, 5]


async def test_links_whose_targets_are_gone(conn: Connection, node: Node) -> None:
    """Stored, pushed, and after a reconnect."""
    await link_people(conn, 3)
    gone = await conn.read_event("people", 0)
    await conn.delete_stream("people", expected=ANY, hard=True)
    async with conn.subscribe("links") as events:
        assert [(await soon(events)).resolved for _ in range(5)] == [True, True, False, False, False]
        await take_until_caught_up(events)
        for checkpoint in (5, 6):
            await conn.append("links", NewEvent.link(gone))
            event = await soon(events)
            assert (event.resolved, event.checkpoint) == (False, checkpoint)
            node.faults.kill_connections()
        assert await take_until_caught_up(events) == []


async def test_a_link_to_a_tombstone(conn: Connection) -> None:
    await conn.append("people", new_events(1))
    await conn.append("links", new_events(1))
    await conn.delete_stream("people", expected=ANY, hard=True)
    (tombstone,) = [event async for event in conn.read_all() if event.type == "$streamDeleted"]
    for resolve_links in (True, False):
        async with (
            conn.subscribe("links", start=END, resolve_links=resolve_links) as events,
            conn.subscribe_live("links", resolve_links=resolve_links) as live,
        ):
            await conn.append("links", [NewEvent.link(tombstone), *new_events(1)])
            for each in (events, live):
                checkpoints = [(await soon(each)).checkpoint for _ in range(2)]
                assert checkpoints[1] == checkpoints[0] + 1


async def test_an_event_that_looks_like_a_tombstone(conn: Connection) -> None:
    """Anybody may give this type to an event; the number tells."""
    async with conn.subscribe("people") as events, conn.subscribe_live("people") as live:
        await take_until_caught_up(events)
        for number in range(3):
            await conn.append("people", NewEvent("$streamDeleted"))
            assert await take(events, 1) == await take(live, 1) == [number]


# --- truncated


@pytest.mark.parametrize("metadata", [{"$maxCount": 3}, {"$tb": 7}])
async def test_a_truncated_stream(metadata: dict[str, int], conn: Connection) -> None:
    await conn.append("$$people", NewEvent.json("$metadata", metadata))
    await conn.append("people", new_events(10))
    async with conn.subscribe("people", page_size=2) as events, conn.subscribe("people", after=1) as later:
        assert await hear(events, 4) == await hear(later, 4) == [7, 8, 9, CaughtUp()]
        await conn.append("people", new_events(3))
        assert await hear(events, 3) == await hear(later, 3) == [10, 11, 12]


async def test_truncated_while_it_is_read(conn: Connection) -> None:
    await conn.append("people", new_events(100))
    async with conn.subscribe("people", page_size=2) as events:
        assert await take(events, 1) == [0]
        await conn.append("$$people", NewEvent.json("$metadata", {"$tb": 95}))
        numbers = await take_until_caught_up(events)
        assert numbers[-5:] == [95, 96, 97, 98, 99]
        assert len(numbers) < 10


async def test_a_stream_that_keeps_one_event(node: Node) -> None:
    """Its consumer is slow: what was dropped before it could be read is no gap to wait for."""
    async with connected(node, buffer_events=3) as conn, trio.open_nursery() as nursery:
        await conn.append("$$people", NewEvent.json("$metadata", {"$maxCount": 1}))
        async with conn.subscribe("people") as events:
            nursery.start_soon(partial(write_singly, conn, 200, pause=0.001))
            numbers: list[int] = []
            while 199 not in numbers:
                numbers += await take_slowly(events, 1, 0.01)
            assert numbers == sorted(set(numbers))
            assert trio.current_time() < 10
            await assert_no_event(events)


async def test_truncated_to_nothing(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    await conn.append("$$people", NewEvent.json("$metadata", {"$tb": 10}))
    async with conn.subscribe("people") as events, conn.subscribe("people", after=1) as later:
        assert await hear(events, 1) == await hear(later, 1) == [CaughtUp()]
        await conn.append("people", new_events(10))
        assert await take(events, 3) == await take(later, 3) == [10, 11, 12]


# --- rights


ADMIN = Credentials("admin", "changeit")


async def test_rights_that_were_taken_meanwhile(conn: Connection, node: Node) -> None:
    await conn.append("people", new_events(1))
    async with (
        connected(node, username="ops") as anybody,
        anybody.subscribe("people") as events,
        anybody.subscribe_live("people") as live,
        anybody.subscribe("people", credentials=ADMIN) as still,
        anybody.subscribe_live("people", credentials=ADMIN) as still_live,
    ):
        assert await take_until_caught_up(events) == await take_until_caught_up(still) == [0]
        await conn.append("$$people", NewEvent.json("$metadata", {"$acl": {"$r": "$admins"}}))
        node.faults.kill_connections()
        for each in (events, live):
            with pytest.raises(AccessDenied):
                await soon(each)
        await conn.append("people", new_events(1))
        assert await take(still, 1) == await take(still_live, 1) == [1]


# --- large events


@pytest.mark.parametrize("stored", [False, True])
async def test_an_event_that_no_frame_can_hold(stored: bool, node: Node) -> None:
    large = NewEvent("happened", bytes(100_000))
    async with connected(node) as writer, connected(node, max_frame_size=65_536) as conn:
        await writer.append("people", new_events(2))
        async with conn.subscribe("people") as events:
            if stored:
                await writer.append("people", large)
                assert await take(events, 2) == [0, 1]
            else:
                assert await take_until_caught_up(events) == [0, 1]
                await writer.append("people", large)
            with pytest.raises(FrameTooLarge):
                await soon(events)
        assert conn.statistics().reconnects == 0


# --- all of it at once


async def test_caught_up_is_never_told_twice_in_a_row(node: Node) -> None:
    async with connected(node, buffer_events=5) as conn, connected(node) as writer, trio.open_nursery() as nursery:
        nursery.start_soon(partial(write_singly, writer, 300, pause=0.003))
        nursery.start_soon(break_each, 0.11, node)
        async with conn.subscribe("people", page_size=5) as events, conn.subscribe_all(page_size=5) as log:
            stories = [Call(nursery, listen, each, 299) for each in (events, log)]
            for story in [await call.value() for call in stories]:
                assert [pair for pair in pairwise(story) if pair[0] == pair[1]] == []
                assert story.count(CaughtUp()) > 3
            nursery.cancel_scope.cancel()


async def listen(events: Subscription[Any], last: int) -> list[object]:
    """Events, by their checkpoints, and notices up to an event of this number; by a consumer that dawdles at times."""
    heard: list[object] = []
    notices = events.with_notices()
    number = -1
    while number < last:
        item = await soon(notices)
        heard.append(item.checkpoint if isinstance(item, Event) else item)
        if isinstance(item, Event) and item.stream == "people":
            number = item.number
            await trio.sleep(0.02 if number % 10 == 0 else 0)
    return heard

"""What projections make of streams, as a client sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import new_events
from trio_extreme import NewEvent
from trio_extreme.embedded import Node, open_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from trio_extreme import Connection, Event


@pytest.fixture
async def node(version: str, autojump_clock: MockClock) -> AsyncIterator[Node]:
    """An empty node that projects."""
    async with open_node(port=None, version=version, projections=True) as opened:
        yield opened


def described(event: Event) -> str:
    return f"{event.number}@{event.stream} by {event.checkpoint}"


async def test_the_streams_there_are(conn: Connection) -> None:
    for stream in ("people-1", "orders", "people-2", "people-1"):
        await conn.append(stream, new_events(2))
    async with conn.subscribe("$streams") as events:
        async for event in events:
            assert event.number == 0
            assert event.stream == ["people-1", "orders", "people-2"][event.checkpoint]
            if event.checkpoint == 2:
                break


async def test_a_dash_in_the_name_of_a_category(conn: Connection) -> None:
    for stream in ("people-of-the-house-1", "people-1", "people_of-1", "people"):
        await conn.append(stream, new_events(1))
    await trio.sleep(1)
    read = [described(event) async for event in conn.read_stream("$ce-people")]
    assert read == ["0@people-of-the-house-1 by 0", "0@people-1 by 1"]
    assert await conn.last_number("$ce-people_of") == 0
    assert await conn.last_number("$ce-people-of-the-house") is None


async def test_a_category_is_followed_across_restarts_of_the_node(node: Node, conn: Connection) -> None:
    async with conn.subscribe("$ce-people", page_size=2) as events:
        seen: list[str] = []
        for number in range(6):
            await conn.append(f"people-{number % 2}", new_events(1))
            if number % 2:
                node.faults.restart(down=0.5)
            seen.append(described(await anext(aiter(events))))
    assert seen == [f"{number // 2}@people-{number % 2} by {number}" for number in range(6)]


async def test_a_link_to_what_was_deleted_for_ever_is_shown_itself(conn: Connection) -> None:
    await conn.append("people-1", new_events(1))
    await trio.sleep(1)
    await conn.delete_stream("people-1", expected=0, hard=True)
    await conn.append("people-2", new_events(1))
    await trio.sleep(1)
    dead, tombstone, alive = [event async for event in conn.read_stream("$ce-people")]
    assert (dead.resolved, dead.type, dead.data) == (False, "$>", b"0@people-1")
    assert not tombstone.resolved
    assert (alive.resolved, alive.stream) == (True, "people-2")


async def test_events_of_a_type(conn: Connection) -> None:
    await conn.append("people-1", [NewEvent("born"), NewEvent("named")])
    await conn.append("orders", NewEvent("born"))
    await trio.sleep(1)
    assert [described(event) async for event in conn.read_stream("$et-born")] == [
        "0@people-1 by 0",
        "0@orders by 1",
    ]
    assert [described(event) async for event in conn.read_stream("$et-named")] == ["1@people-1 by 0"]

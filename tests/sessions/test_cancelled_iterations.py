"""Iterators cancelled at each step, again and again: whoever goes on with the same one has lost nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import trio

from tests.following import place_of
from tests.helpers import assert_nothing_left, new_events
from tests.sessions.steps import cancelled_at
from trio_extreme import (
    CaughtUp,
    Checkpoint,
    Closed,
    Connected,
    Connection,
    FellBehind,
    Filter,
    Lost,
    Notice,
    Reconnected,
    Reconnecting,
    StreamMissing,
    open_connection,
)
from trio_extreme.embedded import Node, open_node

if TYPE_CHECKING:
    from trio_extreme.subscriptions import Subscription

pytestmark = pytest.mark.usefixtures("autojump_clock")

Items: TypeAlias = AsyncIterator[Any]
Way: TypeAlias = Callable[[Any], Items]

STORED, SIZE = 6, 12
BACK = Reconnected(gap_possible=False)

each_way = pytest.mark.parametrize(
    "way",
    [
        pytest.param(aiter, id="events"),
        pytest.param(lambda events: events.batches(), id="batches"),
        pytest.param(lambda events: events.with_notices(), id="with_notices"),
    ],
)
#: More steps than any one of these takes of its own; and those of all tasks, of which many are not the iterator's.
each_step = pytest.mark.parametrize(
    ("step", "of_all"), [*((step, False) for step in range(1, 10)), *((step, True) for step in range(2, 60, 7))]
)


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[tuple[Node, Connection]]:
    """A node with events in its stream, and a connection of which nothing may be left."""
    async with (
        open_node(port=None) as node,
        open_connection(node.settings.replace(**settings), connect=node.connect) as conn,
    ):
        await write(conn, range(STORED))
        yield node, conn
        await conn.ping()
        assert_nothing_left(conn)


async def write(conn: Connection, numbers: range, pause: float = 0.0) -> None:
    for number in numbers:
        await conn.append("s", new_events(1, number), expected=number - 1)
        await trio.sleep(pause)


async def collect(items: Items, step: int, *, of_all: bool, last: int = SIZE - 1) -> list[Any]:
    """Everything up to the last event, each attempt to get it cancelled at a step, as far as it has so many.

    A cancelled one is tried again; at the first steps it would be cancelled for ever.
    """
    seen: list[Any] = []
    while last not in seen:
        with cancelled_at(step, of_all=of_all):
            seen += unpack(await anext(items))
            continue
        seen += unpack(await anext(items))
    return seen


def unpack(item: Any) -> list[Any]:
    """An event or a notice, or the events of a list, by their places."""
    single = isinstance(item, Notice) or hasattr(item, "number")
    return [place_of(item)] if single else [event.number for event in item]


def numbers_of(seen: list[Any]) -> list[int]:
    return [item for item in seen if not isinstance(item, Notice)]


def notices_of(seen: list[Any]) -> list[Notice]:
    return [item for item in seen if isinstance(item, Notice)]


# --- readers


@each_step
async def test_readers(step: int, of_all: bool) -> None:
    async with opened() as (_, conn):
        for make in (lambda: conn.read_stream("s", page_size=2), lambda: conn.read_stream("s", page_size=2).pages()):
            assert await collect(make(), step, of_all=of_all, last=STORED - 1) == list(range(STORED))
        async with conn.read_stream("s", page_size=2) as ahead:
            assert await collect(ahead, step, of_all=of_all, last=STORED - 1) == list(range(STORED))


# --- subscriptions


async def follow(
    conn: Connection, events: Subscription[Any], way: Way, step: int, *, of_all: bool, meanwhile: Any = None
) -> list[Any]:
    """What is seen of a stream that somebody else goes on writing, while this happens."""
    seen: list[Any] = []
    async with events, trio.open_nursery() as nursery:
        nursery.start_soon(write, conn, range(STORED, SIZE), 0.01)
        if meanwhile is not None:
            nursery.start_soon(meanwhile)
        seen += await collect(way(events), step, of_all=of_all)
    return seen


@each_way
@each_step
async def test_live(way: Way, step: int, of_all: bool) -> None:
    async with opened() as (_, conn):
        seen = await follow(conn, conn.subscribe_live("s"), way, step, of_all=of_all)
    assert seen == list(range(STORED, SIZE))


@each_way
@each_step
async def test_catching_up(way: Way, step: int, of_all: bool) -> None:
    async with opened() as (_, conn):
        seen = await follow(conn, conn.subscribe("s", page_size=2), way, step, of_all=of_all)
    assert numbers_of(seen) == list(range(SIZE))
    assert notices_of(seen) in ([], [CaughtUp()])


@each_step
async def test_catching_up_with_the_log(step: int, of_all: bool) -> None:
    async with opened() as (_, conn), conn.subscribe_all(page_size=2) as events:
        stored = [event.position.commit async for event in conn.read_all()]
        items = events.with_notices()
        assert await collect(items, step, of_all=of_all, last=CaughtUp()) == [*stored, CaughtUp()]


@each_step
async def test_reading_and_catching_up_with_a_filter(step: int, of_all: bool) -> None:
    async with opened() as (_, conn):
        await conn.append("other", new_events(3))
        stored = [event.position.commit async for event in conn.read_all() if event.stream == "s"]
        reader = conn.read_all(filter=Filter.by_stream("s"), page_size=2)
        assert await collect(reader, step, of_all=of_all, last=stored[-1]) == stored
        async with conn.subscribe_all(filter=Filter.by_stream("s"), page_size=2) as events:
            *seen, place, _ = await collect(events.with_notices(), step, of_all=of_all, last=CaughtUp())
    assert seen == stored
    assert isinstance(place, Checkpoint)


@each_step
async def test_a_stream_that_is_missing(step: int, of_all: bool) -> None:
    async with opened() as (_, conn), conn.subscribe("missing") as events:
        seen = await collect(events.with_notices(), step, of_all=of_all, last=CaughtUp())
    assert seen == [StreamMissing("missing"), CaughtUp()]


@each_way
@each_step
async def test_falling_behind(way: Way, step: int, of_all: bool) -> None:
    async with opened(buffer_events=1, max_in_flight=50) as (_, conn):

        async def flood() -> None:
            for number in range(STORED, SIZE):
                await conn.append("s", new_events(2, number))
                await trio.sleep(0.05)

        async with conn.subscribe("s", page_size=2) as events, trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            seen = await collect(way(events), step, of_all=of_all)
            nursery.cancel_scope.cancel()
    assert numbers_of(seen)[:SIZE] == list(range(SIZE))
    notices = notices_of(seen)
    assert notices[::2] == [CaughtUp()] * len(notices[::2])
    assert notices[1::2] == [FellBehind()] * len(notices[1::2])


@each_way
@each_step
async def test_across_reconnects(way: Way, step: int, of_all: bool) -> None:
    async with opened(reconnect_delay=0.01) as (node, conn):

        async def break_it() -> None:
            for _ in range(4):
                await trio.sleep(0.017)
                node.faults.kill_connections()

        events = conn.subscribe("s", page_size=2)
        seen = await follow(conn, events, way, step, of_all=of_all, meanwhile=break_it)
    assert numbers_of(seen) == list(range(SIZE))
    notices = notices_of(seen)
    assert CaughtUp() not in [after for before, after in pairwise(notices) if before == after]


@each_step
async def test_a_gap_of_a_live_one_is_told(step: int, of_all: bool) -> None:
    async with opened() as (node, conn), conn.subscribe_live("s") as events, trio.open_nursery() as nursery:

        async def break_it() -> None:
            await write(conn, range(STORED, STORED + 3), 0.01)
            node.faults.kill_connections()
            await trio.sleep(1)
            await write(conn, range(STORED + 3, SIZE), 0.01)

        nursery.start_soon(break_it)
        seen = await collect(events.with_notices(), step, of_all=of_all)
    assert seen == [6, 7, 8, Reconnected(gap_possible=True), 9, 10, 11]


# --- what becomes of the connection


@pytest.mark.parametrize("step", range(1, 5))
async def test_changes(step: int) -> None:
    async with opened() as (node, conn):
        changes = conn.changes()

        async def break_it() -> None:
            for _ in range(2):
                await trio.sleep(1)
                node.faults.kill_connections()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(break_it)
            seen = [await cancel_once(changes.__anext__, step) for _ in range(7)]
    seen.append(await cancel_once(changes.__anext__, step))
    kinds = [Connected, *2 * [Lost, Reconnecting, Connected], Closed]
    assert [type(change) for change in seen] == kinds
    with pytest.raises(StopAsyncIteration):
        await cancel_once(changes.__anext__, step)


async def cancel_once(function: Callable[[], Awaitable[Any]], step: int) -> Any:
    """What it returns, at the second attempt where the first was cancelled."""
    with cancelled_at(step, of_all=False):
        return await function()
    return await function()

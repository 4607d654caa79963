"""Catch-up subscriptions: what is stored, then what is written, on every kind of stream."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import assert_nothing_left, new_events
from tests.peer import ANONYMOUS, Call
from tests.rows.consuming import (
    assert_server_pushes_nothing,
    assert_silent,
    connected,
    hear,
    next_of,
    soon,
    take,
    take_ours,
    take_slowly,
    take_until_caught_up,
    write_singly,
)
from trio_extreme import (
    ANY,
    END,
    AccessDenied,
    AheadOfServer,
    CaughtUp,
    CheckpointBeyondEnd,
    DropReason,
    InvalidArgument,
    StreamDeleted,
    StreamMissing,
    SubscriptionDropped,
    open_connection,
)

if TYPE_CHECKING:
    from trio_extreme import Connection
    from trio_extreme.embedded import Node


# --- on every kind of stream


async def test_an_existing_stream(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    async with conn.subscribe("people", page_size=2) as events:
        assert await hear(events, 4) == [0, 1, 2, CaughtUp()]
        await write_singly(conn, 100)
        assert await hear(events, 100) == list(range(3, 103))
        assert [event.number async for event in conn.read_stream("people")] == list(range(103))
        await assert_silent(events)


async def test_a_missing_stream(conn: Connection) -> None:
    async with conn.subscribe("people", page_size=20) as events:
        with trio.fail_after(0.01):
            assert await hear(events, 2) == [StreamMissing("people"), CaughtUp()]
        await conn.append("people", new_events(100))
        assert await hear(events, 100) == list(range(100))
        await assert_silent(events)


async def test_a_soft_deleted_stream(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    await conn.delete_stream("people", expected=ANY)
    async with conn.subscribe("people", page_size=2) as events:
        assert await hear(events, 2) == [StreamMissing("people"), CaughtUp()]
        await assert_silent(events)
        await conn.append("people", new_events(100))
        assert await hear(events, 100) == list(range(3, 103))
        await assert_silent(events)


async def test_a_recreated_stream(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    await conn.delete_stream("people", expected=ANY)
    await conn.append("people", new_events(3))
    async with conn.subscribe("people", page_size=3) as events:
        assert await hear(events, 4) == [3, 4, 5, CaughtUp()]
        await conn.append("people", new_events(100))
        assert await hear(events, 100) == list(range(6, 106))


async def test_a_hard_deleted_stream(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    await conn.delete_stream("people", expected=ANY, hard=True)
    async with conn.subscribe("people") as events:
        for _ in range(2):
            with pytest.raises(StreamDeleted), trio.fail_after(0.01):
                await anext(events)
    assert_nothing_left(conn)


async def test_two_connections(conn: Connection, node: Node) -> None:
    await conn.append("people", new_events(3))
    async with connected(node) as other, conn.subscribe("people", page_size=2) as events:
        assert await hear(events, 4) == [0, 1, 2, CaughtUp()]
        for writer in (conn, other) * 4:
            await writer.append("people", new_events(3))
        assert await hear(events, 24) == list(range(3, 27))


@pytest.mark.parametrize("deleted", [False, True])
async def test_two_events_after_nothing(deleted: bool, conn: Connection) -> None:
    first = 0
    if deleted:
        first = (await conn.append("people", new_events(3))).last + 1
        await conn.delete_stream("people", expected=ANY)
    async with conn.subscribe("people") as events:
        assert await hear(events, 2) == [StreamMissing("people"), CaughtUp()]
        await conn.append("people", new_events(2))
        assert await hear(events, 2) == [first, first + 1]


async def test_access_denied(node: Node) -> None:
    async with open_connection(ANONYMOUS, connect=node.connect) as conn:
        async with conn.subscribe_all() as events:
            with pytest.raises(AccessDenied):
                await soon(events)
        assert_nothing_left(conn)


# --- while somebody writes


@pytest.mark.parametrize("pause", [0, 0.001])
@pytest.mark.parametrize("head_start", [0, 0.1])
async def test_while_events_are_written_one_by_one(pause: float, head_start: float, conn: Connection) -> None:
    await conn.append("people", new_events(200))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(write_singly, conn, 200, pause=pause))
        await trio.sleep(head_start)
        async with conn.subscribe("people", page_size=2) as events:
            heard = await hear(events, 401)
            assert [number for number in heard if number != CaughtUp()] == list(range(400))
            await assert_silent(events)


async def test_what_is_written_while_it_goes_live(conn: Connection, node: Node) -> None:
    """Each answer takes ten milliseconds, and there is an event in each of them."""
    await conn.append("people", new_events(3))
    async with trio.open_nursery() as nursery, conn.subscribe("people") as events:
        with node.faults.delay(0.01):
            nursery.start_soon(write_without_waiting, conn, 150)
            assert await take(events, 153) == list(range(153))


async def write_without_waiting(conn: Connection, count: int) -> None:
    async with trio.open_nursery() as nursery:
        for event in new_events(count):
            nursery.start_soon(conn.append, "people", event)
            await trio.sleep(0.001)


async def test_written_at_each_moment_of_going_live(conn: Connection, node: Node) -> None:
    """While a page is read, while it subscribes, while it reads again, and live: each takes ten milliseconds."""
    await conn.append("people", new_events(1))
    for number in range(1, 41):
        end = await conn.head()
        with node.faults.delay(0.01):
            async with (
                conn.subscribe("people", after=number - 1) as events,
                conn.subscribe_all(after=end) as log,
                trio.open_nursery() as nursery,
            ):
                heard = [Call(nursery, next_of, each, "people") for each in (events, log)]
                await trio.sleep(number / 1000)
                await conn.append("people", new_events(1))
                assert [await call.value() for call in heard] == [number, number]


# --- at the consumer's pace


async def test_five_seconds_for_the_first_event(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    async with conn.subscribe("people", page_size=2) as events:
        assert await take_slowly(events, 1, 5.001) == [0]
        assert await hear(events, 3) == [1, 2, CaughtUp()]
        await conn.append("people", new_events(100))
        assert await hear(events, 100) == list(range(3, 103))


async def test_pages_come_at_the_consumers_pace(conn: Connection) -> None:
    """One page is worked on and one is ahead: no more."""
    await conn.append("people", new_events(1000))
    before = conn.statistics().bytes_received
    assert [event.number async for event in conn.read_stream("people", start=900)] == list(range(900, 1000))
    event_size = (conn.statistics().bytes_received - before) / 100
    heartbeats = 1000
    async with conn.subscribe("people", page_size=100) as events:
        before = conn.statistics().bytes_received
        for number in range(1000):
            assert await take_slowly(events, 1, 0.01) == [number]
            now = conn.statistics()
            assert now.bytes_received - before - heartbeats <= (number + 200) * event_size
            assert (now.in_flight, now.subscriptions[0].buffered_events) == (0, 0)
        assert await hear(events, 1) == [CaughtUp()]


# --- places


@pytest.mark.parametrize("hard", [False, True])
async def test_a_deleted_stream_longer_than_a_page(hard: bool, conn: Connection) -> None:
    await conn.append("people", new_events(10))
    await conn.delete_stream("people", expected=ANY, hard=hard)
    async with conn.subscribe("people", page_size=2) as events:
        if hard:
            with pytest.raises(StreamDeleted):
                await soon(events)
        else:
            assert await hear(events, 2) == [StreamMissing("people"), CaughtUp()]
            await assert_silent(events)


@pytest.mark.parametrize("hard", [False, True])
async def test_deleted_between_two_pages(hard: bool, conn: Connection) -> None:
    await conn.append("people", new_events(10))
    async with conn.subscribe("people", page_size=2) as events:
        # The third and fourth are on their way already.
        assert await take(events, 1) == [0]
        await conn.delete_stream("people", expected=ANY, hard=hard)
        assert await take(events, 3) == [1, 2, 3]
        if hard:
            with pytest.raises(StreamDeleted):
                await soon(events)
        else:
            assert await hear(events, 2) == [StreamMissing("people"), CaughtUp()]
            await conn.append("people", new_events(2))
            assert await hear(events, 2) == [10, 11]


async def test_hard_deleted_while_live(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    async with conn.subscribe("people") as events:
        assert await take_until_caught_up(events) == [0, 1]
        await conn.delete_stream("people", expected=ANY, hard=True)
        with pytest.raises(StreamDeleted), trio.fail_after(0.01):
            await anext(events)
    assert_nothing_left(conn)
    await conn.ping()


async def test_a_hard_delete_does_not_end_a_subscription_to_all(conn: Connection) -> None:
    await conn.append("places", new_events(1))
    await conn.append("trees", new_events(1))
    await conn.delete_stream("places", expected=ANY, hard=True)
    async with conn.subscribe_all(page_size=1) as events:
        # Found while reading, and pushed.
        assert await take_ours(events, 3) == ["places", "trees", "places"]
        await take_until_caught_up(events)
        await conn.delete_stream("trees", expected=ANY, hard=True)
        assert await take_ours(events, 1) == ["trees"]
        await conn.append("people", new_events(1))
        assert await take_ours(events, 1) == ["people"]


async def test_start_is_inclusive_and_after_is_not(conn: Connection) -> None:
    await conn.append("people", new_events(5))
    async with conn.subscribe("people", start=3) as events:
        assert await take_until_caught_up(events) == [3, 4]
    async with conn.subscribe("people", after=3) as events:
        assert await take_until_caught_up(events) == [4]
    async with conn.subscribe("people", after=None) as events:
        assert await take_until_caught_up(events) == [0, 1, 2, 3, 4]
    with pytest.raises(InvalidArgument, match="after"):
        conn.subscribe("people", start=3, after=3)


async def test_start_is_inclusive_and_after_is_not_in_the_log(conn: Connection) -> None:
    await conn.append("people", new_events(5))
    log = [event async for event in conn.read_all()]
    for index in (0, 2, len(log) - 2):
        place = log[index].checkpoint
        async with conn.subscribe_all(start=place) as events:
            assert await soon(events) == log[index]
            assert await soon(events) == log[index + 1]
        async with conn.subscribe_all(after=place) as events:
            assert await soon(events) == log[index + 1]


async def test_going_on_after_each_checkpoint(conn: Connection) -> None:
    """As a program does that is started anew after each event."""
    await conn.append("people", new_events(5))
    checkpoint, numbers = None, []
    for _ in range(5):
        async with conn.subscribe("people", after=checkpoint, page_size=2) as events:
            event = await soon(events)
            numbers.append(event.number)
            checkpoint = event.checkpoint
    assert numbers == [0, 1, 2, 3, 4]
    async with conn.subscribe("people", after=checkpoint) as events:
        assert await take_until_caught_up(events) == []


@pytest.mark.parametrize(
    "arguments",
    [{"start": -1}, {"start": 2**63}, {"after": -1}, {"page_size": 0}, {"page_size": 4097}, {"on_ahead": "hope"}],
)
async def test_impossible_places_are_not_sent(arguments: dict[str, int], conn: Connection) -> None:
    before = conn.statistics().frames_sent
    with pytest.raises(InvalidArgument, match=next(iter(arguments))):
        conn.subscribe("people", **arguments)  # type: ignore[arg-type]
    assert conn.statistics().frames_sent == before


async def test_a_place_past_the_end(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    async with conn.subscribe("people", start=10) as events:
        assert await hear(events, 2) == [AheadOfServer(9, 2), CaughtUp()]
        await conn.append("people", new_events(7))
        await assert_silent(events)
        await conn.append("people", new_events(2))
        assert await hear(events, 2) == [10, 11]


async def test_a_place_past_the_end_can_be_an_error(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    async with conn.subscribe("people", after=9, on_ahead="raise") as events:
        with pytest.raises(CheckpointBeyondEnd) as info:
            await soon(events)
    assert (info.value.ours, info.value.servers_last) == (9, 2)


async def test_the_place_after_the_last_is_not_past_the_end(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    async with conn.subscribe("people", after=2) as events:
        assert await hear(events, 1) == [CaughtUp()]


async def test_from_the_end_of_a_missing_stream(conn: Connection) -> None:
    async with conn.subscribe("people", start=END) as events:
        assert await hear(events, 2) == [StreamMissing("people"), CaughtUp()]
        await assert_silent(events, 60)
        await conn.append("people", new_events(2))
        assert await hear(events, 2) == [0, 1]


async def test_the_end_is_that_of_the_time_of_subscribing(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    async with conn.subscribe("people", start=END) as events:
        await conn.append("people", new_events(2))
        assert await take_until_caught_up(events) == [2, 3]


# --- leaving


async def test_left_while_it_catches_up(conn: Connection) -> None:
    await conn.append("people", new_events(10))
    for taken in range(11):
        async with conn.subscribe("people", page_size=2) as events:
            assert await take(events, taken) == list(range(taken))
        assert_nothing_left(conn)
    await assert_server_pushes_nothing(conn)


async def test_left_at_any_moment(conn: Connection, node: Node) -> None:
    """While pages are read, while it subscribes, while it is live: each answer takes a tenth of a second."""
    await conn.append("people", new_events(4))
    for hundredths in range(1, 100, 3):
        with node.faults.delay(0.1), trio.move_on_after(hundredths / 100) as scope:
            async with conn.subscribe("people", page_size=2) as events:
                assert await take_until_caught_up(events) == [0, 1, 2, 3]
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert_nothing_left(conn)
    await assert_server_pushes_nothing(conn)


async def test_an_error_in_the_consumer_unsubscribes(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    with pytest.raises(ZeroDivisionError):
        await fail_when_caught_up(conn)
    assert_nothing_left(conn)
    await assert_server_pushes_nothing(conn)


async def fail_when_caught_up(conn: Connection) -> None:
    async with conn.subscribe("people") as events:
        assert await take_until_caught_up(events) == [0, 1, 2]
        raise ZeroDivisionError


async def test_when_it_is_left_nothing_of_it_is_left(conn: Connection) -> None:
    """At once, without a moment for others between."""
    await conn.append("people", new_events(3))
    async with conn.subscribe("people") as events:
        await take_until_caught_up(events)
        await conn.append("people", new_events(100))
    assert_nothing_left(conn)
    with pytest.raises(SubscriptionDropped) as info:
        await soon(events)
    assert info.value.reason is DropReason.LEFT

"""Persistent subscriptions, against the embedded node."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.helpers import assert_nothing_left, new_events
from tests.rows.consuming import assert_silent, connected, hear, soon, take
from trio_extreme import (
    ANY,
    END,
    START,
    ConsumerStrategy,
    GroupExists,
    GroupNotFound,
    NakAction,
    NewEvent,
    PersistentSettings,
    Reconnected,
    StreamDeleted,
    TooManyConsumers,
    open_admin,
    open_connection,
)
from trio_extreme.embedded import Node, open_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from trio_extreme import Connection, PersistentSubscription

#: What Extreme's own tests set.
SETTINGS = PersistentSettings(
    start_from=START,
    message_timeout=0.5,
    max_retry_count=10,
    checkpoint_after_time=1.0,
    checkpoint_min_count=1,
    checkpoint_max_count=500,
    subscriber_max_count=1,
)
PARKED, CHECKPOINTS = "$persistentsubscription-people::group-parked", "$persistentsubscription-people::group-checkpoint"


async def create(conn: Connection, count: int = 0, stream: str = "people", **changes: Any) -> None:
    """A group, and so many events in its stream."""
    await conn.create_persistent(stream, "group", SETTINGS.replace(**changes))
    await conn.append(stream, new_events(count))


def consume(conn: Connection, in_flight: int = 10, stream: str = "people", **options: Any) -> PersistentSubscription:
    return conn.subscribe_persistent(stream, "group", in_flight=in_flight, **options)


async def parked(conn: Connection) -> list[int]:
    """The numbers of the events that were parked."""
    return [event.number async for event in conn.read_stream(PARKED)]


# --- consuming


async def test_as_many_as_in_flight_without_an_ack(conn: Connection) -> None:
    await create(conn, 5, message_timeout=30.0)
    async with consume(conn, 5) as events:
        assert await take(events, 5) == [0, 1, 2, 3, 4]
        await assert_silent(events)


@pytest.mark.parametrize("by_id", [False, True])
async def test_an_ack_brings_the_next(conn: Connection, *, by_id: bool) -> None:
    await create(conn, 5)
    async with consume(conn, 1) as events:
        for number in range(5):
            event = await soon(events)
            assert event.number == number
            await events.ack(event.ack_id if by_id else event)
        await assert_silent(events)


async def test_what_was_acked_before_leaving_does_not_come_again(conn: Connection) -> None:
    await create(conn, 4)
    async with consume(conn, 1) as events:
        for _ in range(2):
            await events.ack(await soon(events))
        assert await take(events, 1) == [2]
    async with consume(conn) as events:
        assert await take(events, 2) == [2, 3]
        await assert_nothing_but(events, [2, 3])


async def assert_nothing_but(events: PersistentSubscription, numbers: list[int]) -> None:
    """For a while, nothing comes but these, again."""
    with trio.move_on_after(2):
        async for event in events:
            assert event.number in numbers


@pytest.mark.parametrize("version", ["3.9.4", "4.1.1", "22.10"])
async def test_a_retry_comes_again(conn: Connection, version: str) -> None:
    await create(conn, 2)
    async with consume(conn, 1) as events:
        event = await soon(events)
        await events.nak(event, message="not now")
        again = await soon(events)
        assert (again, again.number) == (event, 0)
        assert (event.retry_count, again.retry_count) == {"3.9.4": (None, None), "4.1.1": (0, 1)}.get(
            version, (None, 1)
        )


async def test_what_is_parked_does_not_come_again_and_the_next_one_does(conn: Connection) -> None:
    await create(conn, 3)
    async with consume(conn, 1) as events:
        await events.nak(await soon(events), action=NakAction.PARK, message="no good")
        event = await soon(events)
        assert event.number == 1
        await events.ack(event)
        assert await take(events, 1) == [2]
        await assert_nothing_but(events, [2])
    (kept,) = [event async for event in conn.read_stream(PARKED)]
    assert (kept.stream, kept.number) == ("people", 0)
    assert kept.link is not None
    assert json.loads(kept.link.metadata)["reason"] == "Client explicitly NAK'ed message.\nno good"


async def test_acks_within_the_loop(conn: Connection) -> None:
    await create(conn, 5)
    seen = []
    async with consume(conn, 2) as events:
        async for event in events:
            seen.append(event.number)
            await events.ack(event)
            if event.number == 4:
                break
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("by_id", [False, True])
async def test_connected_before_anything_is_written(conn: Connection, *, by_id: bool) -> None:
    await create(conn)
    async with consume(conn) as events:
        await conn.append("people", new_events(3))
        for number in range(3):
            event = await soon(events)
            assert event.number == number
            await events.ack(event.ack_id if by_id else event)
        await assert_silent(events)


async def test_retries_and_then_an_ack(conn: Connection) -> None:
    await create(conn, 3)
    seen = []
    async with consume(conn, 1) as events:
        for attempt in range(9):
            event = await soon(events)
            seen.append(event.number)
            await (events.ack(event) if attempt % 3 == 2 else events.nak(event))
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_what_is_not_acked_in_time_comes_again(conn: Connection) -> None:
    await create(conn, 1, message_timeout=2.0)
    async with consume(conn) as events:
        start = trio.current_time()
        assert await take(events, 2) == [0, 0]
        assert 2 <= trio.current_time() - start <= 3
        assert await conn.last_number(CHECKPOINTS) is None


async def test_the_limit_of_retries_and_the_other_naks(conn: Connection) -> None:
    await create(conn, 4, max_retry_count=2)
    async with consume(conn, 1) as events:
        for _ in range(3):
            event = await soon(events)
            assert event.number == 0
            await events.nak(event)
        await events.nak(await soon(events), action=NakAction.SKIP)
        await events.nak(await soon(events), action=NakAction.STOP)
        event = await soon(events)
        assert event.number == 3
        await events.ack(event)
        await assert_silent(events)
    assert await parked(conn) == [0]


async def test_acks_as_fast_as_can_be_name_their_own_events(conn: Connection) -> None:
    await create(conn, stream="people", message_timeout=30.0)
    await create(conn, stream="places", message_timeout=30.0)
    await conn.append("people", new_events(300))
    await conn.append("places", new_events(300))

    async def ack_all(stream: str) -> None:
        async with consume(conn, 7, stream) as events:
            for number in range(300):
                event = await soon(events)
                assert (event.stream, event.number) == (stream, number)
                await events.ack(event)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ack_all, "people")
        nursery.start_soon(ack_all, "places")
    await trio.sleep(3)
    for stream in ("people", "places"):
        checkpoint = await conn.read_event(f"$persistentsubscription-{stream}::group-checkpoint", END)
        # From 23 on it is a text.
        assert checkpoint.data.strip(b'"') == b"299"


# --- coming and going


async def test_who_left_without_a_word_connects_again_and_is_not_one_too_many(node: Node, conn: Connection) -> None:
    await create(conn, 3)
    async with consume(conn, 1) as events:
        await events.ack(await soon(events))
        assert await take(events, 1) == [1]
        node.faults.kill_connections()
        heard = await hear(events, 2)
        assert heard == [Reconnected(gap_possible=False), 1]
    async with consume(conn) as events:
        assert await take(events, 2) == [1, 2]


async def test_connecting_again_on_the_same_connection(conn: Connection) -> None:
    await create(conn, 3)
    for _ in range(5):
        async with consume(conn) as events:
            assert await take(events, 3) == [0, 1, 2]
            with pytest.raises(TooManyConsumers):
                await consume(conn).__aenter__()


async def test_a_handler_that_fails_leaves_no_consumer_behind(conn: Connection) -> None:
    await create(conn, 1, subscriber_max_count=2, max_retry_count=100)

    async def handle(*, on_error: NakAction | None) -> None:
        async with consume(conn, on_error=on_error) as events:
            event = await soon(events)
            msg = f"no good: {event.number}"
            raise RuntimeError(msg)

    for _ in range(5):
        with pytest.raises(RuntimeError):
            await handle(on_error=None)
    with pytest.raises(RuntimeError):
        await handle(on_error=NakAction.PARK)
    assert_nothing_left(conn)
    assert await parked(conn) == [0]


async def test_it_comes_back_after_a_reconnect(node: Node, conn: Connection) -> None:
    await create(conn, 4)
    async with consume(conn, 2) as events:
        first = await soon(events)
        node.faults.restart(down=1.0)
        await trio.sleep(0.1)
        # Of those that were not taken nothing is left.
        assert await hear(events, 2) == [Reconnected(gap_possible=False), 0]
        # It belongs to the connection that was lost.
        await events.ack(first)
        assert events.statistics().ignored_acks == 1
        await events.ack(*[await soon(events) for _ in range(2)])
        assert await take(events, 2) == [2, 3]


async def test_an_update_connects_again_and_a_deletion_does_not(conn: Connection) -> None:
    await create(conn, 3, resolve_link_tos=False)
    async with consume(conn) as events:
        assert await take(events, 3) == [0, 1, 2]
        await conn.update_persistent("people", "group", SETTINGS.replace(max_retry_count=1))
        assert await hear(events, 2) == [Reconnected(gap_possible=False), 0]
        await conn.delete_persistent("people", "group")
        with pytest.raises(GroupNotFound):
            await soon(events)
    assert_nothing_left(conn)


async def test_a_group_that_is_not_there_and_one_that_is_full(node: Node, conn: Connection) -> None:
    with pytest.raises(GroupNotFound):
        await consume(conn).__aenter__()
    await create(conn, 1)
    async with connected(node) as other, consume(other):
        with pytest.raises(TooManyConsumers):
            await consume(conn).__aenter__()
    async with consume(conn) as events:
        assert await take(events, 1) == [0]
    assert_nothing_left(conn)


async def test_a_stream_that_is_deleted_for_ever(conn: Connection) -> None:
    await create(conn, 1)
    async with consume(conn) as events:
        await events.ack(await soon(events))
        await conn.delete_stream("people", expected=ANY, hard=True)
        with pytest.raises(StreamDeleted):
            await soon(events)
    with pytest.raises(StreamDeleted):
        await consume(conn).__aenter__()


# --- groups


async def test_a_group_is_created_once_and_deleted_once(conn: Connection) -> None:
    await create(conn)
    with pytest.raises(GroupExists, match=r"Group 'group' already exists\."):
        await create(conn)
    assert not await conn.ensure_persistent("people", "group", SETTINGS, update=True)
    await conn.delete_persistent("people", "group")
    with pytest.raises(GroupNotFound, match=r"Group 'group' does not exist\."):
        await conn.delete_persistent("people", "group")
    assert await conn.ensure_persistent("people", "group")


async def test_a_poison_event_is_told_by_its_retries_and_can_be_looked_at_and_replayed(
    node: Node, conn: Connection
) -> None:
    await create(conn, max_retry_count=3)
    await conn.append("people", [NewEvent("Bad"), NewEvent("Good")])
    retries = []
    async with consume(conn, 1) as events:
        async for event in events:
            if event.type == "Good":
                await events.ack(event)
                break
            retries.append(event.retry_count)
            await events.nak(event, message="poison")
    # 3.9 never tells, and from 22.6 on servers leave out zeros.
    assert retries[1:] == ([None] * 3 if node.version == "3.9.4" else [1, 2, 3])
    assert not retries[0]
    assert await parked(conn) == [0]
    async with open_admin(node.settings, connect=node.connect) as admin:
        await admin.replay_parked("people", "group")
    async with consume(conn) as events:
        event = await soon(events)
        assert (event.number, event.type, event.retry_count or 0) == (0, "Bad", 0)
        await events.ack(event)
        await assert_silent(events)
    assert await parked(conn) == []


async def test_without_a_checkpoint_by_time_nothing_is_written_down(conn: Connection) -> None:
    await create(conn, 3, checkpoint_after_time=0.0)
    async with consume(conn) as events:
        await events.ack(*[await soon(events) for _ in range(3)])
        await trio.sleep(10)
    assert await conn.last_number(CHECKPOINTS) is None


# --- categories


@asynccontextmanager
async def projecting() -> AsyncIterator[Connection]:
    async with (
        open_node(port=None, projections=True) as node,
        open_connection(node.settings, connect=node.connect) as conn,
    ):
        yield conn
        assert_nothing_left(conn)


async def test_a_category_is_acked_by_the_ids_of_its_links(autojump_clock: MockClock) -> None:
    async with projecting() as conn:
        await create(conn, stream="$ce-people", resolve_link_tos=True)
        async with consume(conn, 1, "$ce-people") as events:
            for number in range(3):
                await conn.append(f"people-{number}", new_events(1))
            for number in range(3):
                event = await soon(events)
                assert (event.stream, event.number, event.checkpoint) == (f"people-{number}", 0, number)
                assert event.link is not None
                assert event.ack_id == event.link.id != event.id
                await events.ack(event.ack_id if number == 1 else event)
            await assert_silent(events)


async def test_a_category_with_a_retry(autojump_clock: MockClock) -> None:
    async with projecting() as conn:
        await create(conn, stream="$ce-people", resolve_link_tos=True)
        seen = []
        async with consume(conn, 1, "$ce-people") as events:
            for number in range(2):
                await conn.append(f"people-{number}", new_events(1))
            for attempt in range(4):
                event = await soon(events)
                seen.append(event.checkpoint)
                await (events.ack(event) if attempt % 2 else events.nak(event))
        assert seen == [0, 0, 1, 1]


@pytest.mark.parametrize("strategy", ["RoundRobin", "DispatchToSingle", "Pinned", "PinnedByCorrelation"])
@pytest.mark.parametrize("version", ["20.10"])
async def test_every_strategy_hands_out_everything(conn: Connection, strategy: str) -> None:
    await create(conn, named_consumer_strategy=ConsumerStrategy(strategy), subscriber_max_count=0, message_timeout=30.0)
    seen: list[set[int]] = [set(), set()]

    async def work(mine: set[int]) -> None:
        async with consume(conn, 3, auto_ack=True) as events:
            async for event in events:
                mine.add(event.number)

    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for mine in seen:
                nursery.start_soon(work, mine)
            await trio.testing.wait_all_tasks_blocked()
            await conn.append("people", new_events(40))
    assert sorted([*seen[0], *seen[1]]) == list(range(40))
    shares = sorted(len(mine) for mine in seen)
    assert shares[0] == 0 if strategy.startswith("Pinned") else shares[0] > 0

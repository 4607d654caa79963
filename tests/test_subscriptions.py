"""What all subscriptions have in common: the block, who iterates, what is pushed, and the ways that end each of them.

What only the live ones do is in test_live.py, what only those that catch up do in test_catching_up_*.py.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from tests.answers import Drop, appeared, dropped, page, pushed, record
from tests.following import (
    APPEARED,
    DROPPED,
    READ_COMPLETED,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Kind,
    open_on,
    open_to_each,
    opened,
    play,
    subscribe,
    take,
)
from tests.helpers import assert_nothing_left
from tests.peer import ANONYMOUS, Call, Peer, encode, open_to
from trio_extreme import (
    AccessDenied,
    ConnectionClosed,
    DropReason,
    FrameTooLarge,
    Position,
    ProtocolError,
    Reconnected,
    StreamDeleted,
    SubscriptionDropped,
    open_connection,
)
from trio_extreme.events import TOMBSTONE_TYPE
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import SKIPPED

pytestmark = [
    pytest.mark.usefixtures("autojump_clock"),
    pytest.mark.parametrize("kind", ["live", "catching up"]),
]


# --- its block


async def test_entered_once(kind: Kind) -> None:
    async with opened(kind) as subscription:
        with pytest.raises(RuntimeError, match="entered once"):
            await subscription.events.__aenter__()


async def test_iterated_over_outside_its_block(kind: Kind) -> None:
    async with open_to(Peer()) as conn:
        events = subscribe(conn, kind)
        assert events.stream == "s"
        assert repr(events).endswith("to stream 's': 0 events buffered>")
        for items in (events, events.batches(), events.with_notices()):
            with pytest.raises(RuntimeError, match="inside its block"):
                await anext(items)


async def test_leaving_unsubscribes_once_and_what_comes_after_is_stray(kind: Kind) -> None:
    async with opened(kind) as subscription:
        await subscription.events.__aexit__(None, None, None)
        assert_nothing_left(subscription.conn)
        await subscription.push(6)
        subscription.send(DROPPED, dropped(Drop.Unsubscribed))
        await subscription.conn.ping()
        assert subscription.conn.statistics().stray_frames == 2
        error = await subscription.end()
        assert isinstance(error, SubscriptionDropped)
        assert error.reason is DropReason.LEFT
    assert subscription.unsubscribed() == [subscription.request.correlation]


async def test_what_was_fetched_is_still_there_after_leaving(kind: Kind) -> None:
    async with opened(kind) as subscription:
        await subscription.push(5, 6, 7)
        assert await subscription.take(1) == [5]
        await subscription.events.__aexit__(None, None, None)
        assert await subscription.take(2) == [6, 7]
        assert (await subscription.end()).reason is DropReason.LEFT


async def test_left_while_another_task_waits_for_events(kind: Kind, nursery: trio.Nursery) -> None:
    async with opened(kind) as subscription:
        waiting = Call(nursery, subscription.events.__anext__)
        await wait_all_tasks_blocked()
        await subscription.events.__aexit__(None, None, None)
        assert (await waiting.error()).reason is DropReason.LEFT
    assert subscription.unsubscribed() == [subscription.request.correlation]


@pytest.mark.parametrize("error", [None, KeyError()])
async def test_left_by_cancellation_or_error_it_unsubscribes(kind: Kind, error: Exception | None) -> None:
    peer = Peer()
    play(peer)

    async def use() -> None:
        async with open_connection(ANONYMOUS, connect=peer.connect) as conn, subscribe(conn, kind) as events:
            with trio.move_on_after(1):
                await anext(events)
            if error is not None:
                raise error
            await trio.sleep_forever()

    with trio.move_on_after(5) as scope, pytest.raises(KeyError) if error else nullcontext():
        await use()
    assert scope.cancelled_caught == (error is None)
    assert peer.commands()[-2:] == [SUBSCRIBE, UNSUBSCRIBE]


async def test_leaving_does_not_wait_for_a_dead_peer(kind: Kind) -> None:
    peer = Peer()
    play(peer)
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        subscription = await open_on(peer, conn, kind)
        peer.hold()
        await subscription.events.__aexit__(None, None, None)
    assert trio.current_time() == pytest.approx(ANONYMOUS.close_timeout)
    assert_nothing_left(conn)


# --- what comes


async def test_events_know_where_they_are(kind: Kind) -> None:
    async with opened(kind) as subscription:
        await subscription.push(5, data=b"hello")
        event = await anext(subscription.events)
        assert (event.stream, event.number, event.data, event.position) == ("s", 5, b"hello", Position(5, 5))
        assert repr(subscription.events).endswith("to stream 's': 0 events buffered>")


async def test_events_that_come_with_the_confirmation(kind: Kind) -> None:
    async with opened(kind, then=(5, 6)) as subscription:
        await subscription.push(7)
        assert await subscription.take(3) == [5, 6, 7]


async def test_in_lists(kind: Kind) -> None:
    async with opened(kind) as subscription:
        await subscription.push(5, 6)
        await subscription.push(7)
        batches = subscription.events.batches()
        assert aiter(batches) is batches
        assert [event.number for event in await anext(batches)] == [5, 6, 7]
        await subscription.push(8, 9)
        assert await subscription.take(1) == [8]
        assert [event.number for event in await anext(batches)] == [9]


async def test_with_notices_and_without_in_turns(kind: Kind) -> None:
    async with opened(kind) as subscription:
        items = subscription.events.with_notices()
        assert aiter(items) is items
        await subscription.push(5, 6, 7)
        assert await take(items, 1) == [5]
        assert await subscription.take(1) == [6]
        assert await take(items, 1) == [7]


async def test_a_consumer_that_was_cancelled_goes_on(kind: Kind) -> None:
    async with opened(kind) as subscription:
        with trio.move_on_after(1) as scope:
            await subscription.take(1)
        assert scope.cancelled_caught
        await subscription.push(5, 6)
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.take(1)
        assert scope.cancelled_caught
        assert await subscription.take(2) == [5, 6]


async def test_a_second_task_is_refused(kind: Kind, nursery: trio.Nursery) -> None:
    async with opened(kind) as subscription:
        events = subscription.events
        first = Call(nursery, events.__anext__)
        await wait_all_tasks_blocked()
        for items in (events, events.batches(), events.with_notices()):
            with pytest.raises(trio.BusyResourceError):
                await anext(items)
        await subscription.push(5)
        assert (await first.value()).number == 5


async def test_a_task_that_was_refused_takes_no_notice_away(kind: Kind, nursery: trio.Nursery) -> None:
    """Whoever waits for notices gets them, whoever else has asked meanwhile."""
    first, second = Peer(), Peer()
    play(first)
    play(second)
    async with open_to_each(first, second) as conn:
        subscription = await open_on(first, conn, kind)
        items = subscription.events.with_notices()
        waiting = Call(nursery, items.__anext__)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(items)
        first.hang_up()
        assert isinstance(await waiting.value(), Reconnected)
        await subscription.events.__aexit__(None, None, None)


async def test_what_is_buffered_is_counted(kind: Kind) -> None:
    async with opened(kind) as subscription:
        await subscription.push(5, 6)
        (box,) = subscription.conn.statistics().subscriptions
        assert (box.stream, box.buffered_events) == ("s", 2)
        assert box.buffered_bytes == 2 * len(appeared(5).SerializeToString())
        assert repr(subscription.events).endswith("to stream 's': 2 events buffered>")
        await subscription.take(1)
        (box,) = subscription.conn.statistics().subscriptions
        assert (box.buffered_events, box.buffered_bytes) == (0, 0)


async def test_a_link_to_a_tombstone_is_an_event_like_others(kind: Kind) -> None:
    async with opened(kind) as subscription:
        tombstone = record(2**63 - 1, stream="gone", type=TOMBSTONE_TYPE)
        linked = schema.ResolvedEvent(event=tombstone, link=record(5), commit_position=1)
        subscription.send(APPEARED, schema.StreamEventAppeared(event=linked))
        event = await anext(subscription.events)
        assert (event.type, event.checkpoint) == (TOMBSTONE_TYPE, 5)


async def test_a_link_to_nothing(kind: Kind) -> None:
    async with opened(kind) as subscription:
        linked = schema.ResolvedEvent(link=record(5, type="$>"), commit_position=1)
        subscription.send(APPEARED, schema.StreamEventAppeared(event=linked))
        event = await anext(subscription.events)
        assert (event.resolved, event.checkpoint) == (False, 5)


# --- how it ends


async def test_the_server_ends_it(kind: Kind) -> None:
    async with opened(kind) as subscription:
        drop = encode(DROPPED, subscription.request.correlation, dropped(Drop.AccessDenied))
        events = pushed(subscription.request, 5, 6), pushed(subscription.request, 7)
        subscription.peer.send_bytes(events[0] + drop + events[1])
        assert await subscription.take(2) == [5, 6]
        assert isinstance(await subscription.end(), AccessDenied)


async def test_the_server_ends_it_in_a_chunk_of_its_own(kind: Kind) -> None:
    async with opened(kind) as subscription:
        subscription.send(DROPPED, dropped(Drop.AccessDenied))
        assert isinstance(await subscription.end(), AccessDenied)
    # It knows already.
    assert subscription.unsubscribed() == []


async def test_the_server_ends_it_for_a_reason_that_no_server_has(kind: Kind) -> None:
    async with opened(kind) as subscription:
        subscription.send(DROPPED, dropped(Drop.NotFound))
        error = await subscription.end()
        assert isinstance(error, SubscriptionDropped)
        assert error.reason is DropReason.OTHER


@pytest.mark.parametrize("before", [(), (5, 6)])
async def test_the_stream_is_hard_deleted(kind: Kind, before: tuple[int, ...]) -> None:
    async with opened(kind) as subscription:
        tombstone = encode(APPEARED, subscription.request.correlation, appeared(2**63 - 1, type=TOMBSTONE_TYPE))
        subscription.peer.send_bytes(pushed(subscription.request, *before) + tombstone)
        assert await subscription.take(len(before)) == list(before)
        error = await subscription.end()
        assert isinstance(error, StreamDeleted)
        assert error.stream == "s"
        await subscription.conn.ping()
        assert subscription.unsubscribed() == [subscription.request.correlation]


async def test_an_event_above_the_limit_ends_only_this_one(kind: Kind) -> None:
    async with opened(kind, ANONYMOUS.replace(max_frame_size=1024)) as subscription:
        other = await open_on(subscription.peer, subscription.conn, kind)
        large = pushed(subscription.request, 7, data=bytes(2000))
        subscription.peer.send_bytes(pushed(subscription.request, 5, 6) + large + pushed(subscription.request, 8))
        assert await subscription.take(2) == [5, 6]
        error = await subscription.end()
        assert isinstance(error, FrameTooLarge)
        assert (error.limit, error.size > 2000) == (1024, True)
        await other.push(5)
        assert await other.take(1) == [5]
        # The server stops sending what nobody takes.
        assert subscription.unsubscribed() == [subscription.request.correlation]
        await other.events.__aexit__(None, None, None)


async def test_the_connections_block_is_left(kind: Kind, nursery: trio.Nursery) -> None:
    peer = Peer()
    play(peer)
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        waiting = await open_on(peer, conn, kind)
        call = Call(nursery, waiting.events.__anext__)
        holding = await open_on(peer, conn, kind)
        await holding.push(5)
    assert isinstance(await call.error(), ConnectionClosed)
    assert await holding.take(1) == [5]
    assert isinstance(await holding.end(), ConnectionClosed)
    for subscription in (waiting, holding):
        await subscription.events.__aexit__(None, None, None)
    assert_nothing_left(conn)


async def test_an_end_is_a_checkpoint_and_an_error_of_its_own_each_time(kind: Kind) -> None:
    async with opened(kind) as subscription:
        subscription.send(DROPPED, dropped(Drop.AccessDenied))
        errors = []
        for _ in range(3):
            with trio.testing.assert_checkpoints(), pytest.raises(AccessDenied) as info:
                await anext(subscription.events)
            errors.append(info.value)
        assert len(set(map(id, errors))) == 3


# --- what no server sends

GARBAGE = [
    pytest.param(APPEARED, b"\xff\xff", id="garbage"),
    pytest.param(APPEARED, b"", id="no event"),
    pytest.param(APPEARED, 2 * appeared(7).SerializeToString(), id="two events"),
    pytest.param(DROPPED, b"\xff\xff", id="a drop that is none"),
    pytest.param(SKIPPED, b"", id="what no server calls a command"),
    pytest.param(Command.PONG, b"", id="something else"),
    pytest.param(READ_COMPLETED, page([], 1).SerializeToString(), id="an answer to something else"),
]


@pytest.mark.parametrize("before", [(), (5, 6)])
@pytest.mark.parametrize(("command", "body"), GARBAGE)
async def test_events_before_garbage_are_handed_out(
    kind: Kind, command: int, body: bytes, before: tuple[int, ...]
) -> None:
    """It ends with an error, and so does the session: who sends one such frame cannot be trusted with the next."""
    first, second = Peer(), Peer()
    play(first)
    play(second)
    async with open_to_each(first, second) as conn:
        subscription = await open_on(first, conn, kind)
        bad = encode(command, subscription.request.correlation, body)
        first.send_bytes(pushed(subscription.request, *before) + bad + pushed(subscription.request, 8))
        assert await subscription.take(len(before)) == list(before)
        assert isinstance(await subscription.end(), ProtocolError)
        await conn.ping()
        assert first.closed
        assert conn.statistics().reconnects == 1
        await subscription.events.__aexit__(None, None, None)

"""Live subscriptions: entering, and what is pushed from then on. Reconnecting is in test_live_reconnecting.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from tests.answers import Drop, NotHandled, appeared, confirm, confirmed, dropped, event_read, not_handled, pushed
from tests.following import (
    APPEARED,
    CONFIRMATION,
    DROPPED,
    SUBSCRIBE,
    UNSUBSCRIBE,
    ignore,
    open_on,
    open_to_each,
    opened,
    play,
    take,
)
from tests.peer import ANONYMOUS, Call, Peer, answering, encode, open_to
from trio_extreme import (
    AccessDenied,
    BadRequest,
    Credentials,
    DropReason,
    FrameTooLarge,
    NotReady,
    ProtocolError,
    Reconnected,
    StreamDeleted,
    StreamMissing,
    SubscriptionDropped,
)
from trio_extreme.events import TOMBSTONE_TYPE
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme import Settings

pytestmark = pytest.mark.usefixtures("autojump_clock")

GAP = Reconnected(gap_possible=True)


# --- entering


async def test_what_is_sent() -> None:
    peer = Peer()
    play(peer)
    ops = Credentials("ops", "secret")
    async with open_to(peer) as conn:
        async with conn.subscribe_live("s", resolve_links=False, credentials=ops) as events:
            assert repr(events) == "<LiveSubscription to stream 's': 0 events buffered>"
        async with conn.subscribe_all_live() as everything:
            assert "the log of all streams" in repr(everything)
    first, left, second, _ = [request for request in peer.log if request.command in {SUBSCRIBE, UNSUBSCRIBE}]
    assert first.message == schema.SubscribeToStream(event_stream_id="s", resolve_link_tos=False)
    assert first.credentials == ops
    assert second.message == schema.SubscribeToStream(event_stream_id="", resolve_link_tos=False)
    # Who may unsubscribe is not asked.
    assert (left.command, left.credentials) == (UNSUBSCRIBE, None)


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        (DROPPED, dropped(Drop.AccessDenied), AccessDenied),
        (Command.BAD_REQUEST, b"no", BadRequest),
    ],
)
async def test_a_refusal_is_raised_at_entering(
    command: int, answer: Any, kind: type[Exception], nursery: trio.Nursery
) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        entering = Call(nursery, conn.subscribe_live("s").__aenter__)
        request = await peer.receive(SUBSCRIBE)
        peer.send(command, request.correlation, answer)
        assert isinstance(await entering.error(), kind)
    # There is nothing to take back.
    assert peer.commands() == [SUBSCRIBE]


async def test_a_node_that_is_not_ready_is_asked_again(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(operation_timeout=2)) as conn:
        events = conn.subscribe_live("s")
        entering = Call(nursery, events.__aenter__)
        request = await peer.receive(SUBSCRIBE)
        peer.send(Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotReady))
        await confirm(peer, then=[5])
        await entering.value()
        assert (await anext(events)).number == 5
        await events.__aexit__(None, None, None)
        peer.handlers[SUBSCRIBE] = answering(Command.NOT_HANDLED, not_handled(NotHandled.NotReady))(peer)
        with pytest.raises(NotReady):
            await conn.subscribe_live("s").__aenter__()
    assert peer.commands().count(UNSUBSCRIBE) == 1


async def test_a_server_that_stops_is_asked_again(nursery: trio.Nursery) -> None:
    """It says Unsubscribed, to who subscribes too."""
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(operation_timeout=2)) as conn:
        peer.handlers[SUBSCRIBE] = answering(DROPPED, dropped(Drop.Unsubscribed))(peer)
        with pytest.raises(SubscriptionDropped) as info:
            await conn.subscribe_live("s").__aenter__()
        assert info.value.reason is DropReason.UNSUBSCRIBED
        assert trio.current_time() <= 2
        entering = Call(nursery, (events := conn.subscribe_live("s")).__aenter__)
        await trio.sleep(1)
        play(peer)
        await entering.value()
        await events.__aexit__(None, None, None)


@pytest.mark.parametrize("last_number", [2**63 - 1, 2**31 - 1])
async def test_a_stream_that_was_hard_deleted_before(last_number: int, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        entering = Call(nursery, conn.subscribe_live("s").__aenter__)
        await confirm(peer, last_number)
        assert isinstance(await entering.error(), StreamDeleted)
    assert peer.commands() == [SUBSCRIBE, UNSUBSCRIBE]


async def test_a_confirmation_that_is_none(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to_each(peer) as conn:
        entering = Call(nursery, conn.subscribe_live("s").__aenter__)
        request = await peer.receive(SUBSCRIBE)
        peer.send(CONFIRMATION, request.correlation, b"\xff\xff")
        assert isinstance(await entering.error(), ProtocolError)


async def test_an_event_before_any_confirmation(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to_each(peer) as conn:
        entering = Call(nursery, conn.subscribe_live("s").__aenter__)
        request = await peer.receive(SUBSCRIBE)
        peer.send_bytes(pushed(request, 5))
        assert isinstance(await entering.error(), ProtocolError)


@pytest.mark.parametrize("sent", [False, True])
async def test_cancelled_while_entering(sent: bool, nursery: trio.Nursery) -> None:
    """The server is told where it may have heard of it, and only there."""
    peer = Peer()
    async with open_to(peer) as conn:
        if not sent:
            peer.hold()
            Call(nursery, conn.read_event, "s", 0)
        await wait_all_tasks_blocked()
        entering = Call(nursery, conn.subscribe_live("s").__aenter__)
        await wait_all_tasks_blocked()
        entering.scope.cancel()
        await wait_all_tasks_blocked()
        peer.release()
        await wait_all_tasks_blocked()
        said = peer.unanswered()
        if sent:
            assert [request.command for request in said] == [SUBSCRIBE, UNSUBSCRIBE]
            assert said[0].correlation == said[1].correlation
            peer.send(CONFIRMATION, said[0].correlation, confirmed())
            peer.send_bytes(pushed(said[0], 5))
            await conn.ping()
            assert conn.statistics().stray_frames == 2
        else:
            peer.send(Command.READ_EVENT_COMPLETED, said[0].correlation, event_read())
            assert [request.command for request in said] == [Command.READ_EVENT]


async def test_cancelled_before_entering() -> None:
    """Nothing of it is sent; who is faster, the caller or the writer, is chance, so it is tried often."""
    peer = Peer()
    async with open_to(peer) as conn:
        for _ in range(40):
            with trio.CancelScope() as scope:
                scope.cancel()
                await conn.subscribe_live("s").__aenter__()
            assert scope.cancelled_caught
            await conn.ping()
    assert peer.commands() == []


@pytest.mark.parametrize("how", ["cancelled", "refused", "at the same time"])
async def test_entered_once_however_that_ended(how: str, nursery: trio.Nursery) -> None:
    """What came too late for the first time is not taken for the second's."""
    peer = Peer()
    peer.handlers[UNSUBSCRIBE] = ignore
    async with open_to(peer) as conn:
        events = conn.subscribe_live("s")
        entering = Call(nursery, events.__aenter__)
        request = await peer.receive(SUBSCRIBE)
        if how == "cancelled":
            entering.scope.cancel()
        elif how == "refused":
            peer.send(DROPPED, request.correlation, dropped(Drop.AccessDenied))
        await wait_all_tasks_blocked()
        again = Call(nursery, events.__aenter__)
        await wait_all_tasks_blocked()
        assert "entered once" in str(await again.error())
        entering.scope.cancel()
        await wait_all_tasks_blocked()
    assert peer.commands().count(SUBSCRIBE) == 1


async def test_its_time_is_over_when_it_was_just_confirmed(nursery: trio.Nursery) -> None:
    """Where the whole program stood still, the sweeper may come right after the confirmation."""
    peer = Peer()
    async with open_to(peer) as conn:
        events = conn.subscribe_live("s")
        entering = Call(nursery, events.__aenter__)
        request = await peer.receive(SUBSCRIBE)
        calls = conn._engine.calls
        (slot,) = calls._calls
        slot.deliver((CONFIRMATION, 0, request.correlation, [confirmed().SerializeToString()]))
        calls._expire(slot, slot.deadline)
        await entering.value()
        peer.send_bytes(pushed(request, 5))
        assert (await anext(events)).number == 5
        await events.__aexit__(None, None, None)


# --- what comes


@pytest.mark.parametrize("last_number", [-1, 4])
async def test_a_stream_that_is_missing_and_one_that_is_there(last_number: int) -> None:
    peer = Peer()
    play(peer, last_number, then=(last_number + 1,))
    async with open_to(peer) as conn:
        events = conn.subscribe_live("s")
        items = events.with_notices()
        assert not events.missing
        async with events:
            assert events.missing == (last_number == -1)
            seen = await take(items, 2 if events.missing else 1)
    assert seen == ([StreamMissing("s"), 0] if last_number == -1 else [5])


async def test_notices_after_a_cancelled_step() -> None:
    peer = Peer()
    play(peer, -1)
    async with open_to(peer) as conn, conn.subscribe_live("s") as events:
        items = events.with_notices()
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(items)
        assert scope.cancelled_caught
        # It lies ready, and others get their turn all the same.
        with trio.testing.assert_checkpoints():
            assert await anext(items) == StreamMissing("s")


async def test_a_tombstone_in_the_log_is_an_event_like_others() -> None:
    peer = Peer()
    play(peer)
    async with open_to(peer) as conn, conn.subscribe_all_live() as events:
        tombstone = appeared(2**63 - 1, type=TOMBSTONE_TYPE)
        peer.send(APPEARED, peer.log[-1].correlation, tombstone)
        assert (await anext(events)).type == TOMBSTONE_TYPE


# --- a consumer that is too slow


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        pytest.param(ANONYMOUS.replace(live_buffer_events=3), b"", id="events"),
        pytest.param(ANONYMOUS.replace(live_buffer_bytes=600), bytes(130), id="bytes"),
    ],
)
async def test_a_consumer_that_is_too_slow(settings: Settings, data: bytes) -> None:
    async with opened("live", settings) as live:
        other = await open_on(live.peer, live.conn, "live")
        await live.push_each(5, 6, 7, data=data)
        assert live.unsubscribed() == []
        await live.push_each(8, 9, data=data)
        # It is taken back at once, not when the consumer comes to it.
        assert live.unsubscribed() == [live.request.correlation]
        assert live.conn.statistics().stray_frames == 1
        assert await live.take(3) == [5, 6, 7]
        error = await live.end()
        assert isinstance(error, SubscriptionDropped)
        assert error.reason is DropReason.OVERFLOW
        assert "live_buffer_events" in str(error)
        # Another one on the same connection does not notice.
        await other.push(10)
        assert await other.take(1) == [10]
        await other.events.__aexit__(None, None, None)


async def test_too_many_events_with_the_confirmation() -> None:
    async with opened("live", ANONYMOUS.replace(live_buffer_events=2), then=(5, 6, 7)) as live:
        await wait_all_tasks_blocked()
        assert live.unsubscribed() == [live.request.correlation]
        assert (await live.end()).reason is DropReason.OVERFLOW


async def test_a_slow_consumer_that_keeps_up_in_between() -> None:
    async with opened("live", ANONYMOUS.replace(live_buffer_events=3)) as live:
        for start in range(0, 30, 3):
            await live.push(start, start + 1, start + 2)
            assert await live.take(3) == [start, start + 1, start + 2]
        assert live.unsubscribed() == []


async def test_an_event_above_the_limit_comes_with_the_confirmation() -> None:
    peer = Peer()
    play(peer)
    peer.handlers[SUBSCRIBE] = lambda request: peer.send_bytes(
        encode(CONFIRMATION, request.correlation, confirmed()) + pushed(request, 5, data=bytes(2000))
    )
    async with open_to(peer, ANONYMOUS.replace(max_frame_size=1024)) as conn, conn.subscribe_live("s") as events:
        with pytest.raises(FrameTooLarge):
            await anext(events)

"""Live subscriptions: what comes in which order, and each way one ends."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.answers import Drop, appeared, confirm, confirmed, dropped, not_handled, page, pushed, record
from tests.helpers import assert_nothing_left
from tests.peer import ANONYMOUS, Call, Peer, Request, encode, open_to
from trio_extreme import (
    AccessDenied,
    BadRequest,
    ConnectionClosed,
    ConnectionLost,
    Credentials,
    DropReason,
    FrameTooLarge,
    NotReady,
    Position,
    ProtocolError,
    StreamDeleted,
    StreamMissing,
    SubscriptionDropped,
    TrioExtremeError,
    open_connection,
)
from trio_extreme.events import TOMBSTONE_TYPE
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import SKIPPED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_extreme import Connection, LiveSubscription, PushedEvent, Settings

    Events = LiveSubscription[PushedEvent]

pytestmark = pytest.mark.usefixtures("autojump_clock")

SUBSCRIBE, UNSUBSCRIBE = Command.SUBSCRIBE_TO_STREAM, Command.UNSUBSCRIBE_FROM_STREAM
CONFIRMATION, APPEARED = Command.SUBSCRIPTION_CONFIRMATION, Command.STREAM_EVENT_APPEARED
DROPPED = Command.SUBSCRIPTION_DROPPED


def ignore(request: Request) -> None:
    """Nobody answers this."""


class Live:
    """A subscription to stream "s", and the request it was opened with."""

    def __init__(self, peer: Peer, conn: Connection, events: Events, request: Request) -> None:
        self.peer = peer
        self.conn = conn
        self.events = events
        self.request = request

    async def push(self, *numbers: int, data: bytes = b"") -> None:
        """In one chunk, which is filed when this returns."""
        self.peer.send_bytes(pushed(self.request, *numbers, data=data))
        await trio.testing.wait_all_tasks_blocked()

    async def push_each(self, *numbers: int, data: bytes = b"") -> None:
        for number in numbers:
            await self.push(number, data=data)

    def send(self, command: int, message: Any = b"") -> None:
        self.peer.send(command, self.request.correlation, message)

    async def take(self, count: int) -> list[int]:
        return [(await anext(self.events)).number for _ in range(count)]

    async def end(self) -> Any:
        """The error that the iteration ends with, now and ever after."""
        with pytest.raises(TrioExtremeError) as first:
            await anext(self.events)
        with pytest.raises(type(first.value)):
            await anext(self.events)
        return first.value

    def unsubscribed(self) -> list[bytes]:
        return [request.correlation for request in self.peer.log if request.command == UNSUBSCRIBE]


@asynccontextmanager
async def subscribed(
    settings: Settings = ANONYMOUS, *, last_number: int = 4, then: tuple[int, ...] = ()
) -> AsyncIterator[Live]:
    peer = Peer()
    async with open_to(peer, settings) as conn:
        requests: list[Request] = []

        async def answer() -> None:
            requests.append(await confirm(peer, last_number, then=then))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            events = await conn.subscribe_live("s").__aenter__()
        yield Live(peer, conn, events, requests[0])
        await events.__aexit__(None, None, None)


# --- entering


async def test_what_is_sent(nursery: trio.Nursery) -> None:
    peer = Peer()
    peer.handlers[UNSUBSCRIBE] = ignore
    ops = Credentials("ops", "secret")
    async with open_to(peer) as conn:
        nursery.start_soon(partial(confirm, peer))
        async with conn.subscribe_live("s", resolve_links=False, credentials=ops) as events:
            assert repr(events) == "<LiveSubscription to stream 's': 0 events buffered>"
        nursery.start_soon(partial(confirm, peer))
        async with conn.subscribe_all_live() as everything:
            assert "the log of all streams" in repr(everything)
    first, left, second, _ = [request for request in peer.log if request.command in {SUBSCRIBE, UNSUBSCRIBE}]
    assert first.message == schema.SubscribeToStream(event_stream_id="s", resolve_link_tos=False)
    assert first.credentials == ops
    assert second.message == schema.SubscribeToStream(event_stream_id="", resolve_link_tos=False)
    # Who may unsubscribe is not asked.
    assert (left.command, left.credentials) == (UNSUBSCRIBE, None)


async def test_events_that_come_with_the_confirmation() -> None:
    async with subscribed(then=(5, 6)) as live:
        await live.push(7)
        assert await live.take(3) == [5, 6, 7]
        assert live.events._confirmation == (100, 4)


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        (DROPPED, dropped(Drop.AccessDenied), AccessDenied),
        (DROPPED, dropped(Drop.Unsubscribed), SubscriptionDropped),
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
        peer.send(Command.NOT_HANDLED, request.correlation, not_handled(0))
        await confirm(peer, then=[5])
        await entering.value()
        assert (await anext(events)).number == 5
        await events.__aexit__(None, None, None)
        peer.handlers[SUBSCRIBE] = lambda asked: peer.send(Command.NOT_HANDLED, asked.correlation, not_handled(0))
        with pytest.raises(NotReady):
            await conn.subscribe_live("s").__aenter__()
    assert peer.commands().count(UNSUBSCRIBE) == 1


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
    async with open_to(peer) as conn:
        entering = Call(nursery, conn.subscribe_live("s").__aenter__)
        request = await peer.receive(SUBSCRIBE)
        peer.send(CONFIRMATION, request.correlation, b"\xff\xff")
        assert isinstance(await entering.error(), ProtocolError)


async def test_an_event_before_any_confirmation(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
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
        await trio.testing.wait_all_tasks_blocked()
        entering = Call(nursery, conn.subscribe_live("s").__aenter__)
        await trio.testing.wait_all_tasks_blocked()
        entering.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        peer.release()
        await trio.testing.wait_all_tasks_blocked()
        said = peer.unanswered()
        if sent:
            assert [request.command for request in said] == [SUBSCRIBE, UNSUBSCRIBE]
            assert said[0].correlation == said[1].correlation
            peer.send(CONFIRMATION, said[0].correlation, confirmed())
            peer.send_bytes(pushed(said[0], 5))
            await conn.ping()
            assert conn.statistics().stray_frames == 2
        else:
            peer.send(Command.READ_EVENT_COMPLETED, said[0].correlation, schema.ReadEventCompleted(result=1))
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


async def test_entered_once() -> None:
    async with subscribed() as live:
        with pytest.raises(RuntimeError, match="entered once"):
            await live.events.__aenter__()


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
        await trio.testing.wait_all_tasks_blocked()
        again = Call(nursery, events.__aenter__)
        await trio.testing.wait_all_tasks_blocked()
        assert again.done
        assert "entered once" in str(await again.error())
        entering.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
    assert peer.commands().count(SUBSCRIBE) == 1


async def test_its_time_is_over_when_it_was_just_confirmed(nursery: trio.Nursery) -> None:
    """Where the whole program stood still, the sweeper may come right after the confirmation."""
    peer = Peer()
    async with open_to(peer) as conn:
        events = conn.subscribe_live("s")
        entering = Call(nursery, events.__aenter__)
        request = await peer.receive(SUBSCRIBE)
        engine = conn._engine
        (slot,) = engine._calls
        slot.deliver([(CONFIRMATION, 0, request.correlation, confirmed().SerializeToString())])
        engine._expire(slot, slot.deadline)
        await entering.value()
        peer.send_bytes(pushed(request, 5))
        assert (await anext(events)).number == 5
        await events.__aexit__(None, None, None)


async def test_iterated_over_outside_its_block() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        events = conn.subscribe_live("s")
        with pytest.raises(RuntimeError, match="inside its block"):
            await anext(events)


# --- what comes


async def test_events_know_where_they_are() -> None:
    async with subscribed() as live:
        await live.push(5, data=b"hello")
        event = await anext(live.events)
        assert (event.stream, event.number, event.data, event.position) == ("s", 5, b"hello", Position(5, 5))


async def test_in_lists() -> None:
    async with subscribed() as live:
        await live.push(5, 6)
        await live.push(7)
        batches = live.events.batches()
        assert [event.number for event in await anext(batches)] == [5, 6, 7]
        await live.push(8, 9)
        assert await live.take(1) == [8]
        assert [event.number for event in await anext(batches)] == [9]


async def test_notices_of_a_stream_that_is_missing() -> None:
    async with subscribed(last_number=-1) as live:
        await live.push(0)
        items = live.events.with_notices()
        assert aiter(items) is items
        assert await anext(items) == StreamMissing("s")
        event: Any = await anext(items)
        assert event.number == 0


async def test_no_notices_of_one_that_is_there() -> None:
    async with subscribed() as live:
        await live.push(5)
        event: Any = await anext(live.events.with_notices())
        assert event.number == 5


async def test_notices_asked_for_before_the_block(nursery: trio.Nursery) -> None:
    peer = Peer()
    peer.handlers[UNSUBSCRIBE] = ignore
    async with open_to(peer) as conn:
        events = conn.subscribe_live("s")
        assert events.stream == "s"
        items = events.with_notices()
        assert not events.missing
        nursery.start_soon(partial(confirm, peer, -1))
        async with events:
            assert events.missing
            assert await anext(items) == StreamMissing("s")


async def test_notices_after_a_cancelled_step() -> None:
    async with subscribed(last_number=-1) as live:
        items = live.events.with_notices()
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(items)
        assert scope.cancelled_caught
        assert await anext(items) == StreamMissing("s")


async def test_notices_outside_its_block() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        with pytest.raises(RuntimeError):
            await anext(conn.subscribe_live("s").with_notices())


async def test_a_consumer_that_was_cancelled_goes_on() -> None:
    async with subscribed() as live:
        with trio.move_on_after(1) as scope:
            await live.take(1)
        assert scope.cancelled_caught
        await live.push(5, 6)
        with trio.CancelScope() as scope:
            scope.cancel()
            await live.take(1)
        assert scope.cancelled_caught
        assert await live.take(2) == [5, 6]


async def test_a_second_task_is_refused(nursery: trio.Nursery) -> None:
    async with subscribed() as live:
        first = Call(nursery, live.events.__anext__)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(live.events)
        await live.push(5)
        assert (await first.value()).number == 5


async def test_what_is_buffered_is_counted() -> None:
    async with subscribed() as live:
        await live.push(5, 6)
        (box,) = live.conn.statistics().subscriptions
        assert (box.stream, box.buffered_events) == ("s", 2)
        assert box.buffered_bytes == 2 * len(appeared(5).SerializeToString())
        await live.take(1)
        assert live.conn.statistics().subscriptions[0].buffered_events == 0


async def test_a_link_to_a_tombstone_is_an_event_like_others() -> None:
    async with subscribed() as live:
        linked = schema.ResolvedEvent(
            event=record(2**63 - 1, stream="gone", type=TOMBSTONE_TYPE), link=record(5), commit_position=1
        )
        live.send(APPEARED, schema.StreamEventAppeared(event=linked))
        assert [event.link.number for event in [await anext(live.events)] if event.link] == [5]


async def test_a_tombstone_in_the_log_is_an_event_like_others(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        requests: list[Request] = []

        async def answer() -> None:
            requests.append(await confirm(peer))

        nursery.start_soon(answer)
        async with conn.subscribe_all_live() as events:
            peer.send(APPEARED, requests[0].correlation, appeared(2**63 - 1, type=TOMBSTONE_TYPE))
            assert (await anext(events)).type == TOMBSTONE_TYPE


# --- leaving


async def test_leaving_unsubscribes_once_and_what_comes_after_is_stray() -> None:
    async with subscribed() as live:
        await live.push(5)
        await live.events.__aexit__(None, None, None)
        await live.push(6)
        live.send(DROPPED, dropped(Drop.Unsubscribed))
        await live.conn.ping()
        assert live.conn.statistics().stray_frames == 2
        assert live.unsubscribed() == [live.request.correlation]
        # What it held is still there, and then it says why there is no more.
        assert await live.take(1) == [5]
        error = await live.end()
        assert isinstance(error, SubscriptionDropped)
        assert error.reason is DropReason.LEFT
    assert live.unsubscribed() == [live.request.correlation]


@pytest.mark.parametrize("error", [None, KeyError()])
async def test_left_by_cancellation_or_error_it_unsubscribes(error: Exception | None, nursery: trio.Nursery) -> None:
    peer = Peer()

    async def use() -> None:
        async with open_connection(ANONYMOUS, connect=peer.connect) as conn, conn.subscribe_live("s"):
            if error is not None:
                raise error
            await trio.sleep_forever()

    nursery.start_soon(partial(confirm, peer))
    if error is not None:
        with pytest.raises(KeyError):
            await use()
        assert trio.current_time() == 0
    else:
        with trio.move_on_after(5) as scope:
            await use()
        assert scope.cancelled_caught
    assert peer.commands() == [SUBSCRIBE, UNSUBSCRIBE]


async def test_leaving_does_not_wait_for_a_dead_peer(nursery: trio.Nursery) -> None:
    peer = Peer()
    nursery.start_soon(partial(confirm, peer))
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn, conn.subscribe_live("s"):
        peer.hold()
    assert trio.current_time() == pytest.approx(ANONYMOUS.close_timeout)
    assert_nothing_left(conn)


# --- how it ends


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        pytest.param(ANONYMOUS.replace(live_buffer_events=3), b"", id="events"),
        pytest.param(ANONYMOUS.replace(live_buffer_bytes=600), bytes(130), id="bytes"),
    ],
)
async def test_a_consumer_that_is_too_slow(settings: Settings, data: bytes, nursery: trio.Nursery) -> None:
    async with subscribed(settings) as live:
        requests: list[Request] = []

        async def answer() -> None:
            requests.append(await confirm(live.peer))

        nursery.start_soon(answer)
        async with live.conn.subscribe_live("s") as other:
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
            live.peer.send_bytes(pushed(requests[0], 10))
            assert (await anext(other)).number == 10
        await live.conn.ping()


async def test_too_many_events_with_the_confirmation() -> None:
    async with subscribed(ANONYMOUS.replace(live_buffer_events=2), then=(5, 6, 7)) as live:
        await trio.testing.wait_all_tasks_blocked()
        assert live.unsubscribed() == [live.request.correlation]
        assert (await live.end()).reason is DropReason.OVERFLOW


async def test_a_slow_consumer_that_keeps_up_in_between() -> None:
    async with subscribed(ANONYMOUS.replace(live_buffer_events=3)) as live:
        for start in range(0, 30, 3):
            await live.push(start, start + 1, start + 2)
            assert await live.take(3) == [start, start + 1, start + 2]
        assert live.unsubscribed() == []


async def test_the_server_ends_it() -> None:
    async with subscribed() as live:
        drop = encode(DROPPED, live.request.correlation, dropped(Drop.Unsubscribed))
        live.peer.send_bytes(pushed(live.request, 5, 6) + drop + pushed(live.request, 7))
        assert await live.take(2) == [5, 6]
        error = await live.end()
        assert isinstance(error, SubscriptionDropped)
        assert error.reason is DropReason.UNSUBSCRIBED
        assert live.conn.statistics().subscriptions == ()


async def test_the_server_ends_it_in_a_chunk_of_its_own() -> None:
    async with subscribed() as live:
        live.send(DROPPED, dropped(Drop.AccessDenied))
        assert isinstance(await live.end(), AccessDenied)
    # It knows already.
    assert live.unsubscribed() == []


@pytest.mark.parametrize("before", [(), (5, 6)])
async def test_the_stream_is_hard_deleted(before: tuple[int, ...]) -> None:
    async with subscribed() as live:
        tombstone = encode(APPEARED, live.request.correlation, appeared(2**63 - 1, type=TOMBSTONE_TYPE))
        live.peer.send_bytes(pushed(live.request, *before) + tombstone)
        assert await live.take(len(before)) == list(before)
        error = await live.end()
        assert isinstance(error, StreamDeleted)
        assert error.stream == "s"
        await live.conn.ping()
        assert live.unsubscribed() == [live.request.correlation]


async def test_an_event_above_the_limit_ends_only_this_one(nursery: trio.Nursery) -> None:
    async with subscribed(ANONYMOUS.replace(max_frame_size=1024)) as live:
        requests: list[Request] = []

        async def answer() -> None:
            requests.append(await confirm(live.peer))

        nursery.start_soon(answer)
        async with live.conn.subscribe_live("s") as other:
            large = pushed(live.request, 7, data=bytes(2000))
            live.peer.send_bytes(pushed(live.request, 5, 6) + large + pushed(live.request, 8))
            assert await live.take(2) == [5, 6]
            error = await live.end()
            assert isinstance(error, FrameTooLarge)
            assert error.limit == 1024
            assert error.size > 2000
            live.peer.send_bytes(pushed(requests[0], 5))
            assert (await anext(other)).number == 5
            await live.conn.ping()
            # The server stops sending what nobody takes.
            assert live.unsubscribed() == [live.request.correlation]


async def test_an_event_above_the_limit_comes_with_the_confirmation(nursery: trio.Nursery) -> None:
    peer = Peer()
    peer.handlers[UNSUBSCRIBE] = ignore
    async with open_to(peer, ANONYMOUS.replace(max_frame_size=1024)) as conn:
        entering = Call(nursery, conn.subscribe_live("s").__aenter__)
        request = await peer.receive(SUBSCRIBE)
        confirmation = encode(CONFIRMATION, request.correlation, confirmed())
        peer.send_bytes(confirmation + pushed(request, 5, data=bytes(2000)))
        events = await entering.value()
        with pytest.raises(FrameTooLarge):
            await anext(events)
        await events.__aexit__(None, None, None)


async def test_the_connection_is_lost(nursery: trio.Nursery) -> None:
    async with subscribed() as live:
        nursery.start_soon(partial(confirm, live.peer))
        async with live.conn.subscribe_live("s") as other:
            await live.push(5)
            waiting = Call(nursery, other.__anext__)
            live.peer.hang_up()
            assert await live.take(1) == [5]
            first, second = await live.end(), await waiting.error()
            assert isinstance(first, ConnectionLost)
            assert isinstance(second, ConnectionLost)
            assert first is not second
    assert live.unsubscribed() == []


async def test_the_connections_block_is_left(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        nursery.start_soon(partial(confirm, peer))
        events = await conn.subscribe_live("s").__aenter__()
        waiting = Call(nursery, events.__anext__)
        await trio.testing.wait_all_tasks_blocked()
    assert isinstance(await waiting.error(), ConnectionClosed)
    await events.__aexit__(None, None, None)
    assert_nothing_left(conn)


# --- what no server sends


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([(APPEARED, b"\xff\xff")], id="garbage"),
        pytest.param([(APPEARED, b"")], id="no event"),
        pytest.param([(DROPPED, b"\xff\xff")], id="a drop that is none"),
        pytest.param([(Command.PONG, b"")], id="something else"),
        pytest.param([(CONFIRMATION, confirmed())], id="a second confirmation"),
        pytest.param([(Command.READ_STREAM_EVENTS_FORWARD_COMPLETED, page([], 1))], id="an answer to something else"),
    ],
)
async def test_it_ends_the_connection(frames: list[tuple[int, Any]]) -> None:
    async with subscribed() as live:
        await live.push(5)
        assert await live.take(1) == [5]
        for command, message in frames:
            live.send(command, message)
        assert isinstance(await live.end(), ProtocolError)
        with pytest.raises((ProtocolError, ConnectionLost)):
            await live.conn.ping()


@pytest.mark.parametrize(
    ("command", "body"),
    [
        pytest.param(APPEARED, b"\xff\xff", id="garbage"),
        pytest.param(APPEARED, b"", id="no event"),
        pytest.param(APPEARED, 2 * appeared(7).SerializeToString(), id="two events"),
        pytest.param(DROPPED, b"\xff\xff", id="a drop that is none"),
        pytest.param(SKIPPED, b"", id="what no server calls a command"),
        pytest.param(Command.PONG, b"", id="something else"),
    ],
)
async def test_events_before_garbage_are_handed_out(command: int, body: bytes) -> None:
    async with subscribed() as live:
        bad = encode(command, live.request.correlation, body)
        live.peer.send_bytes(pushed(live.request, 5, 6) + bad + pushed(live.request, 8))
        await trio.testing.wait_all_tasks_blocked()
        assert await live.take(2) == [5, 6]
        assert isinstance(await live.end(), ProtocolError)
        with pytest.raises((ProtocolError, ConnectionLost)):
            await live.conn.ping()


async def test_an_end_is_a_checkpoint_and_an_error_of_its_own_each_time() -> None:
    async with subscribed() as live:
        live.send(APPEARED, b"\xff\xff")
        errors = []
        for _ in range(3):
            with trio.testing.assert_checkpoints(), pytest.raises(ProtocolError) as info:
                await anext(live.events)
            errors.append(info.value)
        assert len(set(map(id, errors))) == 3

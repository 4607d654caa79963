"""Persistent subscriptions: entering, and what is handed out, to one consumer or several."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from tests.answers import Drop, NotHandled, dropped, not_handled
from tests.following import DROPPED, UNSUBSCRIBE, ignore, open_to_each
from tests.grouping import (
    ACK,
    APPEARED,
    CONFIRMATION,
    CONNECT,
    acked,
    block_writer,
    confirmed,
    frames,
    handed,
    id_of,
    open_on,
    opened,
    play,
    settle,
    told,
)
from tests.peer import ANONYMOUS, Call, Peer, answering, encode, open_to
from trio_extreme import (
    AccessDenied,
    BadRequest,
    Credentials,
    FrameTooLarge,
    GroupNotFound,
    NakAction,
    NotMaster,
    NotReady,
    ProtocolError,
    StreamDeleted,
    StreamMissing,
    TooManyConsumers,
)
from trio_extreme.events import TOMBSTONE_TYPE
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

pytestmark = pytest.mark.usefixtures("autojump_clock")

OPS = Credentials("ops", "secret")


# --- entering


async def test_what_is_sent() -> None:
    """The group's name to connect, the confirmed id to ack: pitfall 38. Credentials on all but the unsubscribing."""
    peer = Peer()
    play(peer, subscription_id="s::g, as the server calls it", then=(7,))
    async with (
        open_to(peer) as conn,
        conn.subscribe_persistent("s", "g", in_flight=3, credentials=OPS) as events,
    ):
        assert repr(events) == "<PersistentSubscription to group 'g' of stream 's': 1 events buffered>"
        assert (events.stream, events.group) == ("s", "g")
        await events.ack(await anext(events))
    connect, ack, leave = [request for request in peer.log if request.command in {CONNECT, ACK, UNSUBSCRIBE}]
    assert connect.message == schema.ConnectToPersistentSubscription(
        subscription_id="g", event_stream_id="s", allowed_in_flight_messages=3
    )
    assert ack.message == schema.PersistentSubscriptionAckEvents(
        subscription_id="s::g, as the server calls it", processed_event_ids=[id_of(7)]
    )
    assert (connect.credentials, ack.credentials, leave.credentials) == (OPS, OPS, None)
    assert connect.correlation == ack.correlation == leave.correlation


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        (DROPPED, dropped(Drop.NotFound), GroupNotFound),
        (DROPPED, dropped(Drop.SubscriberMaxCountReached), TooManyConsumers),
        (DROPPED, dropped(Drop.AccessDenied), AccessDenied),
        (Command.BAD_REQUEST, b"no", BadRequest),
        (Command.NOT_HANDLED, not_handled(NotHandled.NotMaster), NotMaster),
    ],
)
async def test_a_refusal_is_raised_at_entering(
    command: int, answer: Any, kind: type[Exception], nursery: trio.Nursery
) -> None:
    """At once: nobody has been there yet who could have been cut off."""
    peer = Peer()
    async with open_to(peer) as conn:
        entering = Call(nursery, conn.subscribe_persistent("s", "g").__aenter__)
        request = await peer.receive(CONNECT)
        peer.send(command, request.correlation, answer)
        assert isinstance(await entering.error(), kind)
        assert trio.current_time() == 0
    # There is nothing to take back.
    assert peer.commands() == [CONNECT]


async def test_a_node_that_is_not_ready_is_asked_again(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(operation_timeout=2)) as conn:
        events = conn.subscribe_persistent("s", "g")
        entering = Call(nursery, events.__aenter__)
        request = await peer.receive(CONNECT)
        peer.send(Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotReady))
        await peer.receive(CONNECT)
        play(peer, then=(5,))
        peer.handlers[CONNECT](peer.log[-1])
        await entering.value()
        assert (await anext(events)).number == 5
        await events.__aexit__(None, None, None)
        peer.handlers[CONNECT] = answering(Command.NOT_HANDLED, not_handled(NotHandled.NotReady))(peer)
        with pytest.raises(NotReady):
            await conn.subscribe_persistent("s", "g").__aenter__()


async def test_a_server_that_does_not_answer_yet_is_asked_again(nursery: trio.Nursery) -> None:
    """It has just become the master: pitfall 45. Should it answer late, it is told that nobody is there."""
    peer = Peer()
    peer.handlers[UNSUBSCRIBE] = ignore
    async with open_to(peer) as conn:
        events = conn.subscribe_persistent("s", "g")
        entering = Call(nursery, events.__aenter__)
        first = await peer.receive(CONNECT)
        second = await peer.receive(CONNECT)
        assert trio.current_time() == pytest.approx(ANONYMOUS.attempt_timeout)
        peer.send(CONFIRMATION, first.correlation, confirmed())
        peer.send(CONFIRMATION, second.correlation, confirmed())
        await entering.value()
        peer.send_bytes(frames(first.correlation, 1) + frames(second.correlation, 2))
        assert (await anext(events)).number == 2
        await events.__aexit__(None, None, None)
    assert [request.correlation for request in peer.log if request.command == UNSUBSCRIBE] == [
        first.correlation,
        second.correlation,
    ]


async def test_events_before_the_confirmation_are_kept(nursery: trio.Nursery) -> None:
    peer = Peer()
    peer.handlers[UNSUBSCRIBE] = peer.handlers[ACK] = ignore
    async with open_to(peer) as conn:
        events = conn.subscribe_persistent("s", "g")
        entering = Call(nursery, events.__aenter__)
        request = await peer.receive(CONNECT)
        peer.send_bytes(frames(request.correlation, 1, 2))
        await settle()
        assert not entering.done
        confirmation = encode(CONFIRMATION, request.correlation, confirmed())
        peer.send_bytes(frames(request.correlation, 3) + confirmation + frames(request.correlation, 4))
        await entering.value()
        assert [(await anext(events)).number for _ in range(4)] == [1, 2, 3, 4]
        await events.ack(*[UUID(bytes_le=id_of(number)) for number in (1, 2, 3, 4)])
        await events.__aexit__(None, None, None)
    assert acked(peer) == [1, 2, 3, 4]


async def test_a_refusal_after_an_event(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        entering = Call(nursery, conn.subscribe_persistent("s", "g").__aenter__)
        request = await peer.receive(CONNECT)
        refusal = encode(DROPPED, request.correlation, dropped(Drop.AccessDenied))
        peer.send_bytes(frames(request.correlation, 1) + refusal)
        assert isinstance(await entering.error(), AccessDenied)


@pytest.mark.parametrize("last", [2**63 - 1, 2**31 - 1])
async def test_a_stream_that_was_hard_deleted_before(last: int) -> None:
    """The server confirms, and is silent for ever."""
    peer = Peer()
    play(peer, last=last)
    async with open_to(peer) as conn:
        with pytest.raises(StreamDeleted):
            await conn.subscribe_persistent("s", "g").__aenter__()
    assert peer.commands() == [CONNECT, UNSUBSCRIBE]


async def test_a_stream_that_was_never_written() -> None:
    peer = Peer()
    play(peer, last=-1, then=(0,))
    async with open_to(peer) as conn, conn.subscribe_persistent("s", "g") as events:
        assert await anext(events.with_notices()) == StreamMissing("s")
        assert (await anext(events)).number == 0


@pytest.mark.parametrize("payload", [b"\xff\xff", b"\x12\x01\xff"])
async def test_a_confirmation_that_is_none(payload: bytes, nursery: trio.Nursery) -> None:
    """Neither bytes that are no message, nor an id that is no text."""
    peer = Peer()
    async with open_to_each(peer) as conn:
        entering = Call(nursery, conn.subscribe_persistent("s", "g").__aenter__)
        request = await peer.receive(CONNECT)
        peer.send(CONFIRMATION, request.correlation, payload)
        assert isinstance(await entering.error(), ProtocolError)


@pytest.mark.parametrize("sent", [False, True])
async def test_cancelled_while_entering(sent: bool, nursery: trio.Nursery) -> None:
    """The server is told where it may have heard of it, and only there."""
    peer = Peer()
    peer.handlers[UNSUBSCRIBE] = ignore
    async with open_to(peer) as conn:
        if not sent:
            await block_writer(peer)
        entering = Call(nursery, conn.subscribe_persistent("s", "g").__aenter__)
        await settle()
        entering.scope.cancel()
        await settle()
        peer.release()
        await settle()
    assert told(peer) == ([CONNECT, UNSUBSCRIBE] if sent else [])


async def test_entered_once() -> None:
    async with opened() as group:
        with pytest.raises(RuntimeError, match="entered once"):
            await group.events.__aenter__()


async def test_iterated_over_outside_of_its_block() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        events = conn.subscribe_persistent("s", "g")
        for ask in (events.__anext__, events.next_list, events.next_with_notices):
            with pytest.raises(RuntimeError, match="inside its block"):
                await ask()


# --- what is handed out


async def test_events_as_they_came() -> None:
    async with opened(then=(5,)) as group:
        await group.push(6, retry=3)
        await group.push(7, retry=None)
        first, second, third = await group.take(3)
        assert [first.number, second.number, third.number] == [5, 6, 7]
        assert [first.retry_count, second.retry_count, third.retry_count] == [0, 3, None]
        assert first.ack_id == first.id == UUID(bytes_le=id_of(5))
        assert (first.stream, first.link, first.position, first.checkpoint) == ("s", None, None, 5)
        assert first.resolved


async def test_servers_that_leave_out_zeros() -> None:
    """From 22.6: the first delivery has no count, later ones have, also within one chunk."""
    async with opened() as group:
        early, late = frames(group.correlation, 1, retry=None), frames(group.correlation, 2, retry=1)
        group.peer.send_bytes(early + late + early.replace(id_of(1), id_of(3)))
        assert [event.retry_count for event in await group.take(3)] == [None, 1, None]


async def test_what_came_through_a_link() -> None:
    """The link's id is to be acked, and its number is the event's place in the stream: pitfall 36."""
    async with opened() as group:
        await group.push(70, link=7)
        (event,) = await group.take(1)
        assert (event.stream, event.number, event.checkpoint) == ("t", 70, 7)
        assert event.id == UUID(bytes_le=id_of(70))
        assert event.ack_id == UUID(bytes_le=id_of(7))
        await group.events.ack(event)
        await settle()
        assert acked(group.peer) == [7]


async def test_a_link_whose_target_is_gone() -> None:
    """Servers leave out the event: pitfall 37."""
    async with opened() as group:
        pushed = handed(70, link=7)
        pushed.event.ClearField("event")
        group.send(APPEARED, pushed)
        (event,) = await group.take(1)
        assert (event.resolved, event.stream, event.number) == (False, "s", 7)
        await group.events.ack(event)
        await settle()
        assert acked(group.peer) == [7]


async def test_lists_as_they_came() -> None:
    async with opened(in_flight=200, then=range(100)) as group:
        batches = group.events.batches()
        with trio.testing.assert_checkpoints():
            first = await anext(batches)
        assert [event.number for event in first] == list(range(100))
        await group.push(100, 101)
        await group.push(102)
        assert (await group.take(1))[0].number == 100
        assert [event.number for event in await anext(batches)] == [101, 102]


async def test_a_cancelled_step_loses_nothing() -> None:
    async with opened(then=(1, 2, 3)) as group:
        for ask in (group.events.__anext__, group.events.next_list, group.events.next_with_notices):
            with trio.CancelScope() as scope:
                scope.cancel()
                await ask()
            assert scope.cancelled_caught
        assert await group.numbers(1) == [1]
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(group.events)
        assert await group.numbers(2) == [2, 3]
        with trio.move_on_after(1) as scope:
            await anext(group.events)
        assert scope.cancelled_caught
        await group.push(4)
        assert await group.numbers(1) == [4]


async def test_a_loop_that_never_waits_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every so many steps, if it is time for it; under the mock clock no time passes in a loop."""
    monkeypatch.setattr("trio_extreme.persistent.TURN", -1.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with opened(in_flight=2000, then=range(1000)) as group, trio.open_nursery() as nursery:
        await trio.sleep(1)
        nursery.start_soon(other)
        for _ in range(1000):
            await group.events.ack(await anext(group.events))
        nursery.cancel_scope.cancel()
    assert turns > 15


async def test_the_tombstone_ends_it_and_is_not_acked() -> None:
    """So that each consumer of the group gets to know. What came before it is handed out first."""
    async with opened(auto_ack=True) as group:
        tombstone = handed(2**63 - 1, id=id_of(9))
        tombstone.event.event.event_type = TOMBSTONE_TYPE
        group.peer.send_bytes(
            frames(group.correlation, 5, 6)
            + encode(APPEARED, group.correlation, tombstone)
            + frames(group.correlation, 7)
        )
        await settle()
        assert await group.numbers(2) == [5, 6]
        # What comes behind the end, as what is delivered again does, is of no use to anybody.
        await group.push(8)
        assert isinstance(await group.end(), StreamDeleted)
        await settle()
        assert group.unsubscribed() == [group.correlation]
    assert acked(group.peer) == [5, 6]


@pytest.mark.parametrize("how", ["type", "number", "stream"])
async def test_what_only_looks_like_a_tombstone(how: str) -> None:
    async with opened() as group:
        pushed = handed(2**31 - 1, id=id_of(9))
        event = pushed.event.event
        event.event_type = "happened" if how == "type" else TOMBSTONE_TYPE
        event.event_number = 5 if how == "number" else 2**31 - 1
        event.event_stream_id = "t" if how == "stream" else "s"
        group.send(APPEARED, pushed)
        assert (await group.take(1))[0].number == event.event_number


async def test_an_event_above_the_limit_of_a_frame() -> None:
    async with opened(ANONYMOUS.replace(max_frame_size=1024)) as group:
        await group.push(5)
        await group.push(6, data=bytes(2000))
        assert isinstance(await group.end(), FrameTooLarge)


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b"",
        schema.PersistentSubscriptionStreamEventAppeared(
            event=schema.ResolvedIndexedEvent()
        ).SerializePartialToString(),
        handed(1, id=b"short").SerializePartialToString(),
        handed(1).SerializePartialToString() * 2,
    ],
    ids=["no message", "nothing", "an event that is none", "an id that is none", "two at a time"],
)
async def test_a_frame_that_is_no_event(payload: bytes) -> None:
    """The session ends with it, and so does the subscription: what it had is not handed out any more."""
    peer = Peer()
    play(peer, then=(1,))
    async with open_to_each(peer) as conn:
        group = await open_on(peer, conn)
        group.send(APPEARED, payload)
        await settle()
        assert isinstance(await group.end(), ProtocolError)
        await settle()
        assert peer.closed
        await group.events.__aexit__(None, None, None)


async def test_another_command_than_an_event() -> None:
    peer = Peer()
    play(peer)
    async with open_to_each(peer) as conn:
        group = await open_on(peer, conn)
        group.send(Command.STREAM_EVENT_APPEARED)
        assert "STREAM_EVENT_APPEARED came to a subscription" in str(await group.end())
        await group.events.__aexit__(None, None, None)


async def test_two_events_of_one_id() -> None:
    """Streams may have them. Both are handed out; the server tracks one of them only: pitfall 53."""
    async with opened() as group:
        await group.push(1, id=id_of(9))
        await group.push(2, id=id_of(9))
        first, second = await group.take(2)
        assert (first.number, second.number) == (1, 2)
        await group.events.ack(first)
        await group.events.ack(second)
        await group.push(3, id=id_of(9))
        (third,) = await group.take(1)
        assert third.number == 3


# --- delivered again


async def test_a_copy_that_nobody_took_is_replaced() -> None:
    async with opened() as group:
        await group.push(1, 2, 3)
        await group.push(2, 4, retry=1)
        taken = await group.take(4)
        assert [event.number for event in taken] == [1, 2, 3, 4]
        assert [event.retry_count for event in taken] == [0, 1, 0, 1]
        assert group.held == (0, 4, 0)


async def test_what_was_taken_comes_again() -> None:
    """Whoever has the first delivery may have given up; the ack of either is the server's."""
    async with opened() as group:
        await group.push(1)
        (first,) = await group.take(1)
        await group.push(1, retry=1)
        (second,) = await group.take(1)
        assert second.retry_count == 1
        await group.events.ack(first)
        await group.events.ack(second)
        await settle()
        assert acked(group.peer) == [1]
        assert group.held == (0, 0, 1)


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("joined", [False, True])
async def test_an_ack_counts_for_the_delivery_that_nobody_took(looked_at: bool, joined: bool) -> None:
    async with opened() as group:
        await group.push(1, 2)
        first, other = await group.take(2)
        await group.push(3, 1, retry=1)
        if looked_at:
            # The first of the new ones is taken, so that the second is next.
            assert await group.numbers(1) == [3]
        if joined:
            await group.events.ack(other)
        await group.events.ack(first)
        await group.push(4)
        assert await group.numbers(1 if looked_at else 2) == ([4] if looked_at else [3, 4])
        await settle()
        assert set(acked(group.peer)) == ({1, 2} if joined else {1})


async def test_an_ack_that_came_too_late_is_said_of_the_next_delivery() -> None:
    """The server had taken the event back, and ignored it."""
    async with opened() as group:
        await group.push(1)
        await group.events.ack(*await group.take(1))
        await settle()
        await group.push(1, 2, retry=1)
        assert await group.numbers(1) == [2]
        await settle()
        assert acked(group.peer) == [1, 1]
        assert group.held == (0, 1, 0)


@pytest.mark.parametrize(
    ("action", "again"), [(NakAction.RETRY, True), (NakAction.PARK, True), (NakAction.SKIP, False)]
)
async def test_what_was_naked_may_come_again(action: NakAction, again: bool) -> None:
    async with opened() as group:
        await group.push(1)
        await group.events.nak(*await group.take(1), action=action)
        await group.push(1, 2, retry=1)
        assert await group.numbers(1) == [1 if again else 2]


async def test_what_was_handled_is_not_remembered_for_ever() -> None:
    async with opened(in_flight=2) as group:
        for number in range(30):
            await group.push(number)
            await group.events.ack(*await group.take(1))
        await group.push(29, 0, retry=1)
        # It will be acked once more, if it must be.
        assert await group.numbers(1) == [0]


# --- several consumers


async def test_several_tasks_share_the_events(nursery: trio.Nursery) -> None:
    async with opened(in_flight=100) as group:
        seen: list[tuple[int, int]] = []

        async def work(name: int) -> None:
            async for event in group.events:
                await trio.sleep(1)
                seen.append((name, event.number))
                await group.events.ack(event)

        async with trio.open_nursery() as workers:
            for name in range(5):
                workers.start_soon(work, name)
            await settle()
            # In one chunk, and each in its own: nobody sleeps while there is something to do.
            await group.push(*range(5))
            await trio.sleep(1.5)
            assert sorted(number for _, number in seen) == list(range(5))
            assert len({name for name, _ in seen}) == 5
            await group.push_each(*range(5, 15))
            await trio.sleep(2.5)
            assert sorted(number for _, number in seen) == list(range(15))
            workers.cancel_scope.cancel()
        assert sorted(acked(group.peer)) == list(range(15))


async def test_who_waits_and_is_cancelled_costs_the_others_nothing(nursery: trio.Nursery) -> None:
    async with opened() as group:
        first = Call(nursery, group.events.__anext__)
        await settle()
        second = Call(nursery, group.events.__anext__)
        await settle()
        first.scope.cancel()
        group.peer.send_bytes(frames(group.correlation, 1))
        assert (await second.value()).number == 1


async def test_an_end_is_told_to_each(nursery: trio.Nursery) -> None:
    async with opened() as group:
        waiting = [Call(nursery, group.events.__anext__) for _ in range(3)]
        await settle()
        group.send(DROPPED, dropped(Drop.AccessDenied))
        errors = [await call.error() for call in waiting]
        assert [type(error) for error in errors] == [AccessDenied] * 3
        assert len({id(error) for error in errors}) == 3
        # Of what it had nothing can be said any more.
        with pytest.raises(AccessDenied):
            await group.events.ack(uuid4())

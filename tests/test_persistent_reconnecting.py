"""Persistent subscriptions across the ends of sessions, updates and deletions of the group, and full buffers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.answers import Drop, NotHandled, dropped, not_handled
from tests.following import DROPPED, UNSUBSCRIBE, ignore, open_to_each, unsubscribed
from tests.grouping import (
    ACK,
    CONFIRMATION,
    CONNECT,
    Group,
    acked,
    block_writer,
    confirmed,
    connects,
    frames,
    open_on,
    opened,
    play,
    said,
    settle,
    told,
)
from tests.peer import ANONYMOUS, Call, Peer, answering, encode, open_to
from trio_extreme import (
    AccessDenied,
    ConnectFailed,
    ConnectionClosed,
    FellBehind,
    GroupNotFound,
    NotMaster,
    ProtocolError,
    Reconnected,
    StreamDeleted,
    TooManyConsumers,
    open_connection,
)
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.usefixtures("autojump_clock")

BACK = Reconnected(gap_possible=False)


async def numbers(items: AsyncIterator[Any], count: int) -> list[Any]:
    """The next ones: events by their numbers, notices as they are."""
    found = [await anext(items) for _ in range(count)]
    return [getattr(item, "number", item) for item in found]


async def lose(peer: Peer) -> None:
    """The session ends, and the next one is there."""
    peer.hang_up()
    await trio.sleep(1)


# --- the connection is lost, and comes back


async def test_it_goes_on_in_the_next_session() -> None:
    """What nobody had taken is dropped: the server delivers it again, perhaps to others."""
    first, second = Peer(), Peer()
    play(first, then=(1, 2, 3))
    play(second, then=(2, 5), retry=1)
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        items = group.events.with_notices()
        assert await numbers(items, 1) == [1]
        await lose(first)
        assert await numbers(items, 3) == [BACK, 2, 5]
        await group.events.__aexit__(None, None, None)
    (before,), (after,) = connects(first), connects(second)
    assert after.payload == before.payload
    assert after.correlation != before.correlation
    assert unsubscribed(first) == []
    assert unsubscribed(second) == [after.correlation]


async def test_nothing_is_handed_out_while_there_is_no_session() -> None:
    peer = Peer()
    play(peer, then=(1, 2))
    async with open_to_each(peer) as conn:
        group = await open_on(peer, conn)
        assert group.held == (2, 0, 0)
        peer.hang_up()
        await settle()
        assert group.held == (0, 0, 0)
        with trio.move_on_after(1000) as scope:
            await anext(group.events)
        assert scope.cancelled_caught
        await group.events.__aexit__(None, None, None)


@pytest.mark.parametrize("back", [False, True])
async def test_the_ack_of_one_still_held_is_ignored_and_counted(back: bool) -> None:
    """It says nothing in the new session, where somebody else may have the event now, or we ourselves again."""
    first, second = Peer(), Peer()
    play(first, then=(1, 2))
    play(second, then=(1,), retry=1)
    async with open_to_each(first, *[second] * back) as conn:
        group = await open_on(first, conn)
        one, two = await group.take(2)
        await lose(first)
        if back:
            (again,) = await group.take(1)
            assert again == one
        await group.events.ack(one)
        await group.events.nak(two)
        await group.events.ack(two.ack_id)
        assert group.held == (0, back, 3)
        if back:
            await group.events.ack(again)
            await settle()
            assert said(second) == [("ack", [1])]
        await group.events.__aexit__(None, None, None)
    assert said(first) == []


async def test_what_was_not_sent_when_the_session_ended_is_counted_too() -> None:
    first, second = Peer(), Peer()
    play(first, then=(1, 2, 3))
    play(second)
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        await block_writer(first)
        one, two, three = await group.take(3)
        await group.events.ack(one, two)
        await group.events.nak(three)
        await lose(first)
        assert group.held == (0, 0, 3)
        await group.events.__aexit__(None, None, None)
    assert said(first) == said(second) == []


async def test_with_auto_ack_the_event_under_way_is_not_acked_in_the_next_session() -> None:
    first, second = Peer(), Peer()
    play(first, then=(1, 2))
    play(second, then=(1,), retry=1)
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn, auto_ack=True)
        await group.numbers(1)
        await lose(first)
        assert [event.retry_count for event in await group.take(1)] == [1]
        await settle()
        assert said(second) == []
        assert group.held == (0, 1, 1)
        await group.events.__aexit__(None, None, None)
    assert acked(second) == [1]


async def test_each_interruption_is_told_once() -> None:
    peers = [Peer() for _ in range(4)]
    for number, peer in enumerate(peers):
        # The third session brings nothing.
        play(peer, then=() if number == 2 else (number,))
    async with open_to_each(*peers) as conn:
        group = await open_on(peers[0], conn)
        items = group.events.with_notices()
        assert await numbers(items, 1) == [0]
        await lose(peers[0])
        assert await numbers(items, 2) == [BACK, 1]
        await lose(peers[1])
        await lose(peers[2])
        assert await numbers(items, 2) == [BACK, 3]
        await group.events.__aexit__(None, None, None)


async def test_lost_while_entering(nursery: trio.Nursery) -> None:
    """Whoever was not confirmed was not interrupted."""
    first, second = Peer(), Peer()
    play(second, then=(7,))
    async with open_to_each(first, second) as conn:
        events = conn.subscribe_persistent("s", "g")
        entering = Call(nursery, events.__aenter__)
        request = await first.receive(CONNECT)
        first.send_bytes(frames(request.correlation, 1))
        await settle()
        first.hang_up()
        await entering.value()
        assert await numbers(events.with_notices(), 1) == [7]
        await events.__aexit__(None, None, None)


async def test_lost_right_after_it_was_confirmed(nursery: trio.Nursery) -> None:
    """In the same chunk, so that whoever enters did not know of it yet."""
    first, second = Peer(), Peer()
    play(second, then=(7,))
    async with open_to_each(first, second) as conn:
        events = conn.subscribe_persistent("s", "g")
        entering = Call(nursery, events.__aenter__)
        request = await first.receive(CONNECT)
        confirmation = encode(CONFIRMATION, request.correlation, confirmed())
        first.send_bytes(confirmation + frames(request.correlation, 1) + b"\xff" * 21)
        await entering.value()
        assert await numbers(events.with_notices(), 2) == [BACK, 7]
        await events.__aexit__(None, None, None)


async def test_a_list_of_a_connection_that_has_ended() -> None:
    first, second = Peer(), Peer()
    play(first, then=(1, 2, 3))
    play(second, then=(1,), retry=1)
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        batch = await anext(group.events.batches())
        await lose(first)
        await group.events.ack(batch)
        assert group.held == (1, 0, 3)
        # The list that came since is another.
        await group.events.ack(await anext(group.events.batches()))
        await settle()
        assert acked(second) == [1]
        await group.events.__aexit__(None, None, None)
    assert acked(first) == []


async def test_events_before_a_later_confirmation_are_kept() -> None:
    first, second = Peer(), Peer()
    play(first, then=(1,))
    play(second)
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        del second.handlers[CONNECT]
        first.hang_up()
        request = await second.receive(CONNECT)
        second.send_bytes(frames(request.correlation, 2, 3))
        await settle()
        assert group.held == (2, 0, 0)
        second.send(CONFIRMATION, request.correlation, confirmed(subscription_id="s::g, later"))
        await settle()
        events = await group.take(2)
        assert [event.number for event in events] == [2, 3]
        await group.events.ack(*events)
        await settle()
        (ack,) = [request for request in second.log if request.command == ACK]
        assert ack.message.subscription_id == "s::g, later"  # type: ignore[attr-defined]
        assert ack.correlation == request.correlation
        await group.events.__aexit__(None, None, None)


async def test_a_later_confirmation_that_is_none() -> None:
    first, second = Peer(), Peer()
    play(first)
    second.handlers[CONNECT] = answering(CONFIRMATION, b"\xff")(second)
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        await lose(first)
        assert isinstance(await group.end(), ProtocolError)
        assert second.closed
        await group.events.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((DROPPED, dropped(Drop.NotFound)), GroupNotFound),
        ((DROPPED, dropped(Drop.AccessDenied)), AccessDenied),
        ((CONFIRMATION, confirmed(2**63 - 1)), StreamDeleted),
    ],
)
async def test_what_the_next_session_refuses_is_raised_where_it_is_iterated_over(
    answer: tuple[int, Any], error: type[Exception]
) -> None:
    first, second = Peer(), Peer()
    play(first, then=(1, 2))
    second.handlers[CONNECT] = answering(*answer)(second)
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        (event,) = await group.take(1)
        await lose(first)
        assert isinstance(await group.end(), error)
        with pytest.raises(error):
            await group.events.ack(event)
        assert len(connects(second)) == 1
        await group.events.__aexit__(None, None, None)


async def test_when_there_will_be_no_connection_any_more(nursery: trio.Nursery) -> None:
    peer = Peer()
    play(peer, then=(1,))
    settings = ANONYMOUS.replace(max_attempts=1, reconnect_delay=0, connect_timeout=1)
    async with open_to_each(peer, settings=settings) as conn:
        group = await open_on(peer, conn)
        (event,) = await group.take(1)
        waiting = Call(nursery, group.events.__anext__)
        await settle()
        peer.hang_up()
        assert isinstance(await waiting.error(), ConnectFailed)
        assert isinstance(await group.end(), ConnectFailed)
        with pytest.raises(ConnectFailed):
            await group.events.ack(event)
        await group.events.__aexit__(None, None, None)


async def test_the_block_of_the_connection_is_left_first(nursery: trio.Nursery) -> None:
    peer = Peer()
    play(peer)
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        group = await open_on(peer, conn)
        waiting = Call(nursery, group.events.__anext__)
        await settle()
    assert isinstance(await waiting.error(), ConnectionClosed)
    await group.events.__aexit__(None, None, None)


async def test_in_the_next_session_it_comes_before_all_requests(nursery: trio.Nursery) -> None:
    first, second = Peer(), Peer()
    play(first)
    play(second)
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        reading = Call(nursery, conn.read_event, "s", 0)
        await settle()
        await lose(first)
        assert told(second) == [CONNECT, Command.READ_EVENT]
        reading.scope.cancel()
        await group.events.__aexit__(None, None, None)


# --- the server ends it


async def test_an_update_of_the_group() -> None:
    """The server says Unsubscribed, as it does to who unsubscribes: pitfall 43. The same session goes on."""
    async with opened(then=(1, 2, 3)) as group:
        (event,) = await group.take(1)
        before = group.correlation
        play(group.peer, then=(2,), retry=1)
        group.send(DROPPED)
        await settle()
        assert group.held == (0, 0, 0)
        await group.events.ack(event)
        items = group.events.with_notices()
        assert await numbers(items, 2) == [BACK, 2]
        assert trio.current_time() == pytest.approx(0.25)
        assert group.correlation != before
        assert group.conn.statistics().reconnects == 0
        assert group.held == (0, 1, 1)
        assert said(group.peer) == []


async def test_what_was_not_sent_when_the_server_ended_it_is_not_said_any_more() -> None:
    async with opened(then=(1, 2)) as group:
        await block_writer(group.peer)
        one, two = await group.take(2)
        await group.events.ack(one)
        await group.events.nak(two)
        group.send(DROPPED)
        await settle()
        group.peer.release()
        await settle()
        assert said(group.peer) == []
        assert group.held == (0, 0, 2)


async def test_events_before_the_end_in_one_chunk() -> None:
    """The server has taken them back."""
    async with opened() as group:
        play(group.peer, then=(2,))
        group.peer.send_bytes(frames(group.correlation, 1) + encode(DROPPED, group.correlation))
        assert await numbers(group.events.with_notices(), 2) == [BACK, 2]


async def test_a_deletion_of_the_group() -> None:
    """The server says the same; who asks again learns more."""
    async with opened(then=(1, 2)) as group:
        await group.take(1)
        group.peer.handlers[CONNECT] = answering(DROPPED, dropped(Drop.NotFound))(group.peer)
        group.send(DROPPED)
        await settle()
        error = await group.end()
        assert isinstance(error, GroupNotFound)
        assert (error.stream, error.group) == ("s", "g")


async def test_a_server_that_stops() -> None:
    """It says so, and closes the connection a little later."""
    first, second = Peer(), Peer()
    play(first, then=(1,))
    play(second, then=(2,))
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        group.send(DROPPED)
        await settle()
        first.hang_up()
        assert await numbers(group.events.with_notices(), 2) == [BACK, 2]
        assert len(connects(first)) == 1
        await group.events.__aexit__(None, None, None)


async def test_a_server_that_ends_it_each_time_is_asked_ever_less_often() -> None:
    """As one that cannot read its store: it confirms, and then ends it."""
    async with opened() as group:
        times = []

        def confirm_and_drop(request: Any) -> None:
            times.append(trio.current_time())
            group.peer.send(CONFIRMATION, request.correlation, confirmed())
            group.peer.send(DROPPED, request.correlation)

        group.peer.handlers[CONNECT] = confirm_and_drop
        group.send(DROPPED)
        await trio.sleep(25)
        assert times == pytest.approx([0.25, 0.75, 1.75, 3.75, 7.75, 12.75, 17.75, 22.75])
        # One that hands out something is as good as new.
        play(group.peer, then=(1,))
        assert await group.numbers(1) == [1]
        started = trio.current_time()
        group.send(DROPPED)
        assert await group.numbers(1) == [1]
        assert trio.current_time() - started == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((DROPPED, dropped(Drop.SubscriberMaxCountReached)), TooManyConsumers),
        ((Command.NOT_HANDLED, not_handled(NotHandled.NotMaster)), NotMaster),
    ],
)
@pytest.mark.parametrize("seconds", [2, 1000])
async def test_what_may_pass_is_waited_for(seconds: float, answer: tuple[int, Any], error: type[Exception]) -> None:
    """The connection that died may still count as a consumer; an election takes its time: pitfall 44.

    For as long as a call would wait.
    """
    first, second = Peer(), Peer()
    play(first)
    second.handlers[CONNECT] = answering(*answer)(second)
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        first.hang_up()
        await trio.sleep(seconds)
        if seconds == 2:
            play(second, then=(1,))
            assert await numbers(group.events.with_notices(), 2) == [BACK, 1]
            assert len(connects(second)) > 5
        else:
            assert isinstance(await group.end(), error)
            assert len(connects(second)) == pytest.approx(ANONYMOUS.operation_timeout / 0.25, abs=3)
        await group.events.__aexit__(None, None, None)


async def test_left_while_it_waits_for_what_may_pass() -> None:
    first, second = Peer(), Peer()
    play(first)
    second.handlers[CONNECT] = answering(DROPPED, dropped(Drop.SubscriberMaxCountReached))(second)
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        await lose(first)
        await group.events.__aexit__(None, None, None)
        asked = len(connects(second))
        await trio.sleep(10)
        assert len(connects(second)) == asked
    assert unsubscribed(second) == []


async def test_lost_while_it_waits_for_what_may_pass() -> None:
    """The next session begins anew."""
    first, second, third = Peer(), Peer(), Peer()
    play(first)
    second.handlers[CONNECT] = answering(DROPPED, dropped(Drop.SubscriberMaxCountReached))(second)
    play(third, then=(1,))
    async with open_to_each(first, second, third) as conn:
        group = await open_on(first, conn)
        await lose(first)
        await lose(second)
        assert await numbers(group.events.with_notices(), 2) == [BACK, 1]
        await group.events.__aexit__(None, None, None)


# --- a consumer that is too slow


async def test_more_than_twice_as_many_as_were_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """A server that keeps to the window does so only after it gave up waiting for earlier ones."""
    async with opened(in_flight=2, then=(1,)) as group:
        (event,) = await group.take(1)
        await group.push(2, 3)
        await group.push(4, 5)
        assert group.held == (4, 1, 0)
        assert group.unsubscribed() == []
        before = group.correlation
        await group.push(6)
        # At once, not when the consumer comes to it.
        assert group.unsubscribed() == [before]
        assert group.held == (0, 0, 0)
        assert "group 'g' of stream 's': 5 events" in caplog.text
        # Nobody connects for a consumer that is not there.
        await trio.sleep(1000)
        assert len(connects(group.peer)) == 1
        await group.events.ack(event)
        play(group.peer, then=(2,), retry=1)
        assert await numbers(group.events.with_notices(), 2) == [FellBehind(), 2]
        assert [request.message.allowed_in_flight_messages for request in connects(group.peer)] == [2, 2]  # type: ignore[attr-defined]
        assert group.held == (0, 1, 1)
        assert said(group.peer) == []


async def test_what_was_said_before_is_sent() -> None:
    async with opened(in_flight=1) as group:
        await group.push(1)
        await block_writer(group.peer)
        await group.events.ack(*await group.take(1))
        await group.push(2, 3, 4)
        before = len(told(group.peer))
        group.peer.release()
        await settle()
        assert told(group.peer)[before:] == [ACK, UNSUBSCRIBE]
        assert acked(group.peer) == [1]


async def test_the_same_events_again_are_no_more() -> None:
    """A redelivery replaces its own copy, so a consumer may be slower than the server's patience for long."""
    async with opened(in_flight=3, then=(1, 2, 3)) as group:
        (event,) = await group.take(1)
        for retry in range(1, 20):
            await group.push(1, 2, 3, retry=retry)
        assert group.unsubscribed() == []
        assert group.held[0] <= 6
        await group.events.ack(event)
        rest = await group.take(2)
        assert [(each.number, each.retry_count) for each in rest] in ([(2, 0), (3, 0)], [(2, 19), (3, 19)])
        await group.events.ack(*rest)
        with trio.move_on_after(1) as scope:
            await anext(group.events)
        assert scope.cancelled_caught
        await settle()
        assert set(acked(group.peer)) == {1, 2, 3}


async def test_more_bytes_than_are_kept() -> None:
    """They are what was asked for: with fewer at a time there is an end of that."""
    settings = ANONYMOUS.replace(buffer_bytes=10_000)
    async with opened(settings, in_flight=5) as group:
        asked = []
        for _ in range(3):
            asked.append(connects(group.peer)[-1].message.allowed_in_flight_messages)  # type: ignore[attr-defined]
            await group.push_each(1, 2, 3, data=bytes(4000))
            with trio.move_on_after(1):
                await anext(group.events)
        assert asked == [5, 2, 1]
        assert len(group.unsubscribed()) == 3


async def test_one_event_larger_than_all_that_is_kept() -> None:
    """It alone is let in, or nobody would ever get it."""
    async with opened(ANONYMOUS.replace(buffer_bytes=10_000), in_flight=5) as group:
        await group.push(1, data=bytes(50_000))
        assert await group.numbers(1) == [1]
        await group.push(2, data=bytes(50_000))
        assert await group.numbers(1) == [2]
        assert group.unsubscribed() == []


async def test_bytes_that_were_taken_do_not_count() -> None:
    async with opened(ANONYMOUS.replace(buffer_bytes=10_000), in_flight=500) as group:
        for first in range(0, 100, 4):
            await group.push(*range(first, first + 4), data=bytes(2000))
            assert await group.numbers(4) == list(range(first, first + 4))
        assert group.unsubscribed() == []


async def test_too_many_with_the_confirmation() -> None:
    async with opened(in_flight=1, then=(1, 2, 3)) as group:
        await settle()
        assert group.unsubscribed() == [group.correlation]
        play(group.peer, then=(4,))
        assert await numbers(group.events.with_notices(), 2) == [FellBehind(), 4]


async def test_too_many_before_the_confirmation(nursery: trio.Nursery) -> None:
    peer = Peer()
    peer.handlers[UNSUBSCRIBE] = ignore
    async with open_to(peer) as conn:
        events = conn.subscribe_persistent("s", "g", in_flight=1)
        entering = Call(nursery, events.__aenter__)
        request = await peer.receive(CONNECT)
        peer.send_bytes(frames(request.correlation, 1, 2, 3))
        peer.send(CONFIRMATION, request.correlation, confirmed())
        await entering.value()
        play(peer, then=(4,))
        assert await numbers(events.with_notices(), 2) == [FellBehind(), 4]
        await events.__aexit__(None, None, None)


async def overflowed(group: Group, *, answered: bool = False) -> None:
    """A consumer that has to connect again."""
    await group.push(*range(50))
    assert len(group.unsubscribed()) == 1
    if not answered:
        del group.peer.handlers[CONNECT]


async def test_of_several_who_ask_one_connects(nursery: trio.Nursery) -> None:
    async with opened() as group:
        await overflowed(group)
        waiting = [Call(nursery, group.events.__anext__) for _ in range(3)]
        request = await group.peer.receive(CONNECT)
        await settle()
        assert len(connects(group.peer)) == 2
        group.peer.send_bytes(
            encode(CONFIRMATION, request.correlation, confirmed()) + frames(request.correlation, 1, 2, 3)
        )
        assert sorted([(await call.value()).number for call in waiting]) == [1, 2, 3]


async def test_another_takes_over_from_who_was_cancelled_while_it_connected(nursery: trio.Nursery) -> None:
    async with opened() as group:
        await overflowed(group)
        first = Call(nursery, group.events.__anext__)
        await group.peer.receive(CONNECT)
        second = Call(nursery, group.events.__anext__)
        await settle()
        first.scope.cancel()
        request = await group.peer.receive(CONNECT)
        group.peer.send_bytes(encode(CONFIRMATION, request.correlation, confirmed()) + frames(request.correlation, 1))
        assert (await second.value()).number == 1
        # The first attempt was taken back.
        assert len(group.unsubscribed()) == 2


async def test_what_came_for_who_was_cancelled_is_not_given_to_another(nursery: trio.Nursery) -> None:
    """With the confirmation came events, and the connection that they came through has been left."""
    async with opened() as group:
        await overflowed(group)
        first = Call(nursery, group.events.__anext__)
        request = await group.peer.receive(CONNECT)
        # It is cancelled, and before it has had its turn all this is filed.
        first.scope.cancel()
        session = group.conn._engine.line.session
        assert session is not None
        came = encode(CONFIRMATION, request.correlation, confirmed()) + frames(request.correlation, 7, 8)
        session._received(came)
        await settle()
        assert group.held == (0, 0, 0)
        second = Call(nursery, group.events.__anext__)
        request = await group.peer.receive(CONNECT)
        group.peer.send_bytes(encode(CONFIRMATION, request.correlation, confirmed()) + frames(request.correlation, 9))
        assert (await second.value()).number == 9


async def test_left_while_it_connects_again(nursery: trio.Nursery) -> None:
    async with opened() as group:
        await overflowed(group)
        waiting = Call(nursery, group.events.__anext__)
        await group.peer.receive(CONNECT)
        await group.events.__aexit__(None, None, None)
        assert "was left" in str(await waiting.error())
        await settle()
        assert len(group.unsubscribed()) == 2


async def test_offline_while_it_has_to_connect_again(nursery: trio.Nursery) -> None:
    first, second = Peer(), Peer()
    play(first)
    play(second, then=(7,))
    async with open_to_each(first, second) as conn:
        group = await open_on(first, conn)
        await overflowed(group, answered=True)
        await lose(first)
        # Nobody asked yet.
        assert connects(second) == []
        assert await numbers(group.events.with_notices(), 2) == [FellBehind(), 7]
        await group.events.__aexit__(None, None, None)


async def test_refused_when_it_connects_again(nursery: trio.Nursery) -> None:
    """Others have taken its place."""
    async with opened() as group:
        await overflowed(group)
        waiting = [Call(nursery, group.events.__anext__) for _ in range(2)]
        request = await group.peer.receive(CONNECT)
        group.peer.send(DROPPED, request.correlation, dropped(Drop.SubscriberMaxCountReached))
        for call in waiting:
            assert isinstance(await call.error(), TooManyConsumers)


async def test_who_asks_for_no_notices_finds_it_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as group:
        await overflowed(group, answered=True)
        play(group.peer, then=(1,))
        assert await group.numbers(1) == [1]
    (entry,) = [entry for entry in caplog.records if entry.levelno == logging.WARNING]
    assert "it leaves the group until it asks for the next" in entry.getMessage()

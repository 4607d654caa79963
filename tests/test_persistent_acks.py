"""Persistent subscriptions: what is said of events, by whom, and what of it leaves when the block is left."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.following import UNSUBSCRIBE, ignore, open_to_each
from tests.grouping import (
    ACK,
    CONNECT,
    acked,
    block_writer,
    handed,
    id_of,
    open_on,
    opened,
    play,
    said,
    settle,
    told,
)
from tests.peer import ANONYMOUS, Call, Peer, open_to
from trio_extreme import (
    Credentials,
    DropReason,
    InvalidArgument,
    NakAction,
    NewEvent,
    StreamMissing,
    SubscriptionDropped,
    open_connection,
)
from trio_extreme.persistent import MAX_UNSENT
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from tests.grouping import Group
    from trio_extreme import PersistentEvent, PersistentSubscription

pytestmark = pytest.mark.usefixtures("autojump_clock")

OPS = Credentials("ops", "secret")


# --- saying what became of events


async def test_acks_are_joined_until_the_next_write() -> None:
    async with opened(in_flight=100, then=range(20)) as group:
        for _ in range(10):
            await group.events.ack(await anext(group.events))
        await settle()
        assert said(group.peer) == [("ack", list(range(10)))]
        await group.events.ack(*await group.take(3))
        await group.events.ack(*await group.take(7))
        await settle()
        assert said(group.peer)[1:] == [("ack", list(range(10, 20)))]
        assert group.held == (0, 0, 0)


async def test_a_list_is_acked_as_it_came() -> None:
    async with opened(in_flight=10, then=range(4)) as group:
        batch = await anext(group.events.batches())
        await group.events.ack(batch)
        await settle()
        assert said(group.peer) == [("ack", [0, 1, 2, 3])]
        # Once more means nothing.
        await group.events.ack(batch)
        assert group.held == (0, 0, 4)


async def test_a_part_of_a_list_and_the_rest() -> None:
    async with opened(in_flight=10, then=range(6)) as group:
        batch = await anext(group.events.batches())
        await group.events.ack(batch[1:3])
        await group.events.nak(batch[4:], action=NakAction.PARK)
        # What was said of some of it stays.
        await group.events.ack(batch)
        await settle()
        assert said(group.peer) == [("ack", [1, 2, 0, 3]), (NakAction.PARK, "", [4, 5])]
        assert group.held == (0, 0, 4)


async def test_lists_and_events_together() -> None:
    async with opened(in_flight=10, then=range(4)) as group:
        first, *others = await anext(group.events.batches())
        await group.events.ack(others, first)
        await settle()
        assert said(group.peer) == [("ack", [1, 2, 3, 0])]


async def test_a_list_in_which_two_have_one_id() -> None:
    """A stream may hold an id twice. The server knows them by their ids alone, and so one ack is for both."""
    async with opened(in_flight=10) as group:
        await group.push(1)
        await group.push(2, id=id_of(1))
        batch = await anext(group.events.batches())
        assert [event.number for event in batch] == [1, 2]
        await group.events.ack(batch)
        await settle()
        assert acked(group.peer) == [1]
        assert group.held == (0, 0, 1)


async def test_naks_go_with_what_they_say() -> None:
    async with opened(then=range(5)) as group:
        zero, one, two, three, four = await group.take(5)
        await group.events.nak(zero)
        await group.events.nak(one, action=NakAction.PARK, message="poison")
        await group.events.ack(two)
        await group.events.nak(three, action=NakAction.SKIP)
        await group.events.nak(four)
        await settle()
        assert said(group.peer) == [
            ("ack", [2]),
            (NakAction.RETRY, "", [0, 4]),
            (NakAction.PARK, "poison", [1]),
            (NakAction.SKIP, "", [3]),
        ]


async def test_never_more_than_2000_ids_in_a_frame() -> None:
    async with opened(in_flight=5000, then=range(4500)) as group:
        await settle()
        await group.events.ack(*await anext(group.events.batches()), *await anext(group.events.batches()))
        await settle()
        assert [len(numbers) for _, numbers in said(group.peer)] == [2000, 2000, 500]
        assert acked(group.peer) == list(range(4500))


async def test_by_id() -> None:
    async with opened() as group:
        await group.push(70, link=7)
        (event,) = await group.take(1)
        # That of the event behind the link is not what the server waits for.
        await group.events.ack(event.id)
        assert group.held == (0, 1, 1)
        await group.events.ack(event.ack_id)
        await settle()
        assert acked(group.peer) == [7]
        assert group.held == (0, 0, 1)


async def test_twice() -> None:
    """Of one event one thing is said."""
    async with opened(then=(1, 2)) as group:
        first, second = await group.take(2)
        await group.events.ack(first, first)
        await group.events.ack(first)
        await group.events.nak(second)
        await group.events.ack(second.ack_id)
        await settle()
        assert said(group.peer) == [("ack", [1]), (NakAction.RETRY, "", [2])]
        assert group.held == (0, 0, 3)


async def as_one(group: Group, *events: PersistentEvent) -> None:
    for event in events:
        await group.events.ack(event)


async def as_some(group: Group, *events: PersistentEvent) -> None:
    await group.events.ack(*events)


@pytest.mark.parametrize("ack", [as_one, as_some])
async def test_an_ack_of_what_was_naked_is_not_meant_for_its_next_delivery(ack: Any) -> None:
    async with opened(then=(1, 2)) as group:
        naked, handled = await group.take(2)
        await group.events.nak(naked)
        await group.push(1, retry=1)
        (again,) = await group.take(1)
        await ack(group, naked, handled)
        await settle()
        assert said(group.peer) == [(NakAction.RETRY, "", [1]), ("ack", [2])]
        assert group.held == (0, 1, 1)
        await group.events.nak(again, action=NakAction.PARK)
        # And of that, too, one thing is said.
        await group.push(1, retry=2)
        await ack(group, naked, again)
        await group.events.ack(*await group.take(1))
        await settle()
        assert said(group.peer)[2:] == [(NakAction.PARK, "", [1]), ("ack", [1])]


async def test_nor_is_that_of_a_list_in_which_one_was_naked() -> None:
    async with opened(then=(1, 2, 3)) as group:
        batch = await group.events.next_list()
        await group.events.nak(batch[1])
        await group.push(2, retry=1)
        (again,) = await group.take(1)
        await group.events.ack(batch)
        await settle()
        assert said(group.peer) == [(NakAction.RETRY, "", [2]), ("ack", [1, 3])]
        await group.events.ack(again)
        assert group.held == (0, 0, 1)


async def test_who_had_it_longer_and_handled_it_acks_though_another_naked_it(nursery: trio.Nursery) -> None:
    """That it was handled is true."""
    async with opened(then=(1,)) as group:
        (first,) = await group.take(1)
        await group.push(1, retry=1)
        (second,) = await group.take(1)
        await group.events.nak(second)
        await group.push(1, retry=2)
        await group.take(1)
        await group.events.ack(first)
        await settle()
        assert said(group.peer) == [(NakAction.RETRY, "", [1]), ("ack", [1])]


async def test_what_was_naked_is_not_remembered_for_ever() -> None:
    async with opened(in_flight=2) as group:
        for number in range(20):
            await group.push(number)
            await group.events.nak(*await group.take(1))
        lease = group.events._window.lease
        assert lease is not None
        assert len(lease.naked) == 4


async def test_nothing() -> None:
    """An empty ack would be an error to servers up to 21: pitfall 39."""
    async with opened() as group:
        await group.events.ack()
        await group.events.nak()
        await settle()
    assert said(group.peer) == []


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ((7,), "events: int is no event of a group"),
        ((None,), "events: NoneType is no event"),
        (({},), "events: dict is no event of a group; give what the subscription gave"),
        (([7],), "events: int is no event of a group"),
        (("1",), "events: str is no event of a group"),
    ],
)
async def test_what_is_no_event(events: tuple[Any, ...], message: str) -> None:
    async with opened(then=(1,)) as group:
        (event,) = await group.take(1)
        for say in (group.events.ack, group.events.nak):
            with pytest.raises(InvalidArgument, match=message):
                await say(event, *events)
        # And nothing is said of the one that is.
        assert group.held == (0, 1, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": 1}, r"action: 1 is none; give NakAction\.PARK, .*NakAction\.STOP"),
        ({"message": b"why"}, "message: a string is wanted, not bytes"),
        ({"message": "x" * 70_000}, "message: 70,000 bytes of UTF-8; the limit is 65,536"),
        ({"message": "\ud800"}, "message: half of a surrogate pair"),
    ],
)
async def test_what_cannot_be_said(options: dict[str, Any], message: str) -> None:
    async with opened(then=(1,)) as group:
        (event,) = await group.take(1)
        with pytest.raises(InvalidArgument, match=message):
            await group.events.nak(event, **options)
        assert group.held == (0, 1, 0)


async def test_an_event_of_another_subscription() -> None:
    async with opened(then=(1,)) as group, opened(then=(1,)) as other:
        (event,) = await other.take(1)
        await group.take(1)
        with pytest.raises(InvalidArgument, match="came through another subscription than that to group 'g'"):
            await group.events.ack(event)
        assert group.held == (0, 1, 0)


async def test_said_is_said_even_by_who_is_cancelled() -> None:
    """The event was handled."""
    async with opened(then=(1, 2)) as group:
        first, second = await group.take(2)
        with trio.CancelScope() as scope:
            scope.cancel()
            await group.events.ack(first)
            await group.events.nak(second)
        await settle()
        assert said(group.peer) == [("ack", [1]), (NakAction.RETRY, "", [2])]


async def test_acks_never_wait_behind_requests(nursery: trio.Nursery) -> None:
    """Only behind the one send that is under way, with what was joined to that."""
    async with opened(then=(1, 2, 3)) as group:
        events = await group.take(3)
        await block_writer(group.peer)
        for _ in range(50):
            Call(nursery, group.conn.append, "t", NewEvent("happened", bytes(100_000)))
        await settle()
        await group.events.ack(*events)
        group.peer.handlers[Command.WRITE_EVENTS] = ignore
        before = len(told(group.peer))
        group.peer.release()
        await settle()
        assert told(group.peer)[before] == ACK
        nursery.cancel_scope.cancel()


async def test_who_says_too_much_waits_for_the_writer() -> None:
    """So that a peer that reads nothing cannot make us keep ever more."""
    async with opened(in_flight=20_000) as group, trio.open_nursery() as nursery:
        for first in range(0, MAX_UNSENT + 100, 4000):
            await group.push(*range(first, first + 4000))
        await block_writer(group.peer)
        total = 0
        while total < MAX_UNSENT:
            batch = await anext(group.events.batches())
            total += len(batch)
            saying = Call(nursery, group.events.ack, *batch)
            await settle()
        assert not saying.done
        group.peer.release()
        await saying.value()
        await settle()
        assert len(acked(group.peer)) == total


@pytest.mark.parametrize("how", ["left", "lost"])
async def test_who_waits_for_the_writer_does_not_wait_for_ever(how: str) -> None:
    peer = Peer()
    play(peer)
    async with open_to_each(peer) as conn, trio.open_nursery() as nursery:
        group = await open_on(peer, conn, in_flight=20_000)
        await group.push(*range(MAX_UNSENT))
        batches = [await anext(group.events.batches()) for _ in range(3)]
        await block_writer(peer)
        await group.events.ack(*batches[0], *batches[1])
        saying = Call(nursery, group.events.ack, *batches[2])
        await settle()
        assert not saying.done
        if how == "lost":
            peer.hang_up()
        else:
            await group.events.__aexit__(None, None, None)
        await saying.value()
        peer.release()
        if how == "lost":
            await group.events.__aexit__(None, None, None)


# --- auto_ack


async def test_asking_for_the_next_acks() -> None:
    async with opened(auto_ack=True, then=(1, 2, 3)) as group:
        assert await group.numbers(1) == [1]
        await settle()
        assert acked(group.peer) == []
        assert await group.numbers(1) == [2]
        await settle()
        assert acked(group.peer) == [1]
        # What came next has not come yet: the last is acked all the same.
        assert await group.numbers(1) == [3]
        with trio.move_on_after(1):
            await anext(group.events)
        assert acked(group.peer) == [1, 2, 3]
    assert acked(group.peer) == [1, 2, 3]


async def test_leaving_by_break_or_at_the_end_acks() -> None:
    async with opened(auto_ack=True, then=(1, 2)) as group:
        async for event in group.events:
            assert event.number == 1
            break
    assert acked(group.peer) == [1]


@pytest.mark.parametrize("how", ["singly", "lists", "notices"])
async def test_without_it_nothing_is_acked_that_was_not_said(how: str) -> None:
    async with opened(then=(1, 2)) as group:
        items = {"singly": group.events, "lists": group.events.batches(), "notices": group.events.with_notices()}[how]
        await anext(items)
    assert said(group.peer) == []


async def test_a_list_is_acked_as_a_whole() -> None:
    async with opened(auto_ack=True, then=(1, 2, 3)) as group:
        batches = group.events.batches()
        await anext(batches)
        await group.push(4)
        await anext(batches)
        await settle()
        assert acked(group.peer) == [1, 2, 3]
    assert acked(group.peer) == [1, 2, 3, 4]


async def test_a_notice_between_acks_nothing_twice() -> None:
    peer = Peer()
    play(peer, last=-1, then=(0, 1))
    async with open_to(peer) as conn, conn.subscribe_persistent("s", "g", auto_ack=True) as events:
        items = events.with_notices()
        assert await anext(items) == StreamMissing("s")
        assert [(await anext(items)).number for _ in range(2)] == [0, 1]  # type: ignore[union-attr]
        await settle()
        assert acked(peer) == [0]


async def fail(how: str, scope: trio.CancelScope) -> None:
    """End the body that awaits this."""
    if how == "cancelled":
        scope.cancel()
        await trio.lowlevel.checkpoint()
    if how == "interrupted":
        raise KeyboardInterrupt
    if how == "an error":
        raise ZeroDivisionError


async def run_failing(events: PersistentSubscription, how: str, taken: int = 0) -> None:
    """Take so many events, and fail; what it fails with is done with."""
    with trio.CancelScope() as scope, suppress(ZeroDivisionError, KeyboardInterrupt):
        async with events:
            for _ in range(taken):
                await anext(events)
            await fail(how, scope)


@pytest.mark.parametrize("how", ["an error", "cancelled"])
async def test_never_on_an_exception(how: str) -> None:
    peer = Peer()
    play(peer, then=(1, 2))
    async with open_to(peer) as conn:
        await run_failing(conn.subscribe_persistent("s", "g", auto_ack=True), how, taken=2)
        await settle()
    assert said(peer) == [("ack", [1])]


async def test_what_the_body_said_itself_stays_so() -> None:
    async with opened(auto_ack=True, then=(1, 2, 3)) as group:
        one, two = await anext(group.events), await anext(group.events)
        await group.events.nak(two, action=NakAction.PARK)
        assert await group.numbers(1) == [3]
        await settle()
        assert said(group.peer) == [("ack", [1]), (NakAction.PARK, "", [2])]
        await group.events.ack(one)
        assert group.held == (0, 1, 2)


async def test_with_it_nobody_acks_what_another_task_is_handling(nursery: trio.Nursery) -> None:
    async with opened(auto_ack=True, then=(1, 2, 3)) as group:
        holding = trio.Event()

        async def hold() -> None:
            await group.take(1)
            await holding.wait()

        holder = Call(nursery, hold)
        await settle()
        for ask in (group.events.__anext__, group.events.next_list, group.events.next_with_notices):
            with pytest.raises(trio.BusyResourceError, match="another task has an event of this subscription"):
                await ask()
        assert said(group.peer) == []
        holding.set()
        await holder.value()
        # It has ended: what it had was handled.
        assert await group.numbers(1) == [2]
        await settle()
        assert said(group.peer) == [("ack", [1])]


async def test_with_it_one_task_at_a_time(nursery: trio.Nursery) -> None:
    async with opened(auto_ack=True, then=(1,)) as group:
        waiting = Call(nursery, group.numbers, 2)
        await settle()
        for ask in (group.events.__anext__, group.events.next_list, group.events.next_with_notices):
            with pytest.raises(trio.BusyResourceError):
                await ask()
        await group.push(2)
        assert await waiting.value() == [1, 2]


# --- on_error


@pytest.mark.parametrize("auto_ack", [False, True])
async def test_a_body_that_fails_naks_what_it_had_where_it_was_asked_to(auto_ack: bool) -> None:
    """Not what was acked, and not what it never saw."""
    peer = Peer()
    play(peer, then=(1, 2, 3, 4))
    async with open_to(peer) as conn:
        events = conn.subscribe_persistent("s", "g", auto_ack=auto_ack, on_error=NakAction.PARK)
        await run_failing(events, "an error", taken=3)
        await settle()
    assert acked(peer) == ([1, 2] if auto_ack else [])
    why = "its consumer ended with ZeroDivisionError"
    assert said(peer)[-1] == (NakAction.PARK, why, [3] if auto_ack else [1, 2, 3])
    assert peer.commands()[-1] == UNSUBSCRIBE


@pytest.mark.parametrize("how", ["cancelled", "interrupted", "normally"])
async def test_a_body_that_was_interrupted_naks_nothing(how: str) -> None:
    """It is not the event's fault."""
    peer = Peer()
    play(peer, then=(1,))
    async with open_to(peer) as conn:
        await run_failing(conn.subscribe_persistent("s", "g", on_error=NakAction.PARK), how, taken=1)
        await settle()
    assert said(peer) == []


async def test_one_of_two_workers_fails() -> None:
    """What the other one had is naked too: it was cancelled, and cannot tell."""
    peer = Peer()
    play(peer, then=(1, 2))

    async def work(events: Any) -> None:
        event = await anext(events)
        await trio.sleep(event.number)
        raise ZeroDivisionError

    async with open_to(peer) as conn:
        events = conn.subscribe_persistent("s", "g", on_error=NakAction.RETRY)
        with pytest.RaisesGroup(ZeroDivisionError):
            async with events, trio.open_nursery() as nursery:
                nursery.start_soon(work, events)
                nursery.start_soon(work, events)
        await settle()
    assert said(peer) == [(NakAction.RETRY, "its consumer ended with ExceptionGroup", [1, 2])]


# --- leaving


async def test_what_was_said_leaves_before_the_unsubscribing() -> None:
    async with opened(then=(1, 2)) as group:
        await block_writer(group.peer)
        await group.events.ack(*await group.take(2))
        await group.events.__aexit__(None, None, None)
        before = len(told(group.peer))
        group.peer.release()
        await settle()
        assert told(group.peer)[before:] == [ACK, UNSUBSCRIBE]
        assert acked(group.peer) == [1, 2]


@pytest.mark.parametrize("how", ["normally", "an error", "cancelled", "interrupted"])
async def test_what_was_said_leaves_with_the_connection(how: str) -> None:
    """Both blocks are left at once: kurrentdbclient#7."""
    peer = Peer()
    play(peer, then=(1, 2))
    with trio.CancelScope() as scope, suppress(ZeroDivisionError, KeyboardInterrupt):
        async with (
            open_connection(ANONYMOUS, connect=peer.connect) as conn,
            conn.subscribe_persistent("s", "g") as events,
        ):
            await events.ack(await anext(events), await anext(events))
            await fail(how, scope)
    assert acked(peer) == [1, 2]
    assert peer.commands() == [CONNECT, ACK, UNSUBSCRIBE]


async def test_a_peer_that_takes_nothing_does_not_keep_us() -> None:
    peer = Peer()
    play(peer, then=(1,))
    async with open_to(peer) as conn, conn.subscribe_persistent("s", "g") as events:
        await block_writer(peer)
        await events.ack(await anext(events))
        started = trio.current_time()
    assert trio.current_time() - started <= ANONYMOUS.close_timeout
    assert acked(peer) == []


async def test_nothing_is_held_for_who_left() -> None:
    async with opened(then=(1, 2, 3)) as group:
        (event,) = await group.take(1)
        await group.events.__aexit__(None, None, None)
        assert group.held == (0, 0, 0)
        await group.push(4)
        for ask in (group.events.__anext__, group.events.next_list, group.events.next_with_notices):
            with pytest.raises(SubscriptionDropped) as caught:
                await ask()
            assert caught.value.reason is DropReason.LEFT
        for say in (group.events.ack, group.events.nak):
            with pytest.raises(SubscriptionDropped, match="group 'g' of stream 's' was left"):
                await say(event)


async def test_another_task_that_waits_when_the_block_is_left(nursery: trio.Nursery) -> None:
    async with opened() as group:
        waiting = Call(nursery, group.events.__anext__)
        await settle()
        await group.events.__aexit__(None, None, None)
        assert isinstance(await waiting.error(), SubscriptionDropped)


async def test_statistics_of_a_connection_know_it() -> None:
    async with opened(in_flight=5, then=(1, 2, 3)) as group:
        await group.take(1)
        (now,) = group.conn.statistics().subscriptions
        assert (now.stream, now.group, now.buffered_events, now.held, now.ignored_acks) == ("s", "g", 2, 1, 0)
        assert now.buffered_bytes == 2 * len(handed(1).SerializeToString())
        assert now.lag is None
        await group.take(2)
        assert group.conn.statistics().subscriptions[0].buffered_bytes == 0

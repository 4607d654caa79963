"""Calls over lost sessions, many at a time: their order, the door, and what is never sent."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import confirm, event_read, written
from tests.helpers import assert_nothing_left, new_events
from tests.kinds import NO_STREAM_YET, READ_BACKWARD
from tests.lost import AT_ONCE, MUCH_LATER, answer_all, asked, block_writer, lose, open_over, settle
from tests.peer import Call, Peer
from trio_extreme import (
    ANY,
    ConnectionLost,
    NewEvent,
    OperationTimedOut,
    OutcomeUnknown,
    open_connection,
)
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from tests.peer import Request
    from trio_extreme import Connection

pytestmark = pytest.mark.usefixtures("autojump_clock")

READ, READ_DONE = Command.READ_EVENT, Command.READ_EVENT_COMPLETED
WRITE, WRITE_DONE = Command.WRITE_EVENTS, Command.WRITE_EVENTS_COMPLETED
SOON = AT_ONCE.replace(reconnect_delay=1, max_reconnect_delay=1)
FRAME = 1000
"""About the size of a frame whose event has so much data."""


def answer_everything(peer: Peer) -> None:
    answer_all(peer, READ, (READ_DONE, event_read()))
    answer_all(peer, WRITE, (WRITE_DONE, written()))
    answer_all(peer, READ_BACKWARD, NO_STREAM_YET)


def numbers(peer: Peer) -> list[int]:
    """What reads and appends of `call_number` came to a peer, in order."""
    found = []
    for request in asked(peer):
        if request.command in {READ, WRITE}:
            message: Any = request.message
            found.append(message.event_number if request.command == READ else message.expected_version)
    return found


async def call_number(nursery: trio.Nursery, conn: Connection, number: int) -> Call:
    """A read, or an append that a number protects; its request has gone as far as it can."""
    if number % 2:
        call = Call(nursery, conn.append, "s", new_events(1), expected=number)
    else:
        call = Call(nursery, conn.read_event, "s", number)
    await settle()
    return call


async def finish(calls: list[Call]) -> None:
    for call in calls:
        await call.value()


# --- order


async def test_hundreds_in_flight(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    answer_everything(second)
    async with open_over(peer, second) as conn:
        calls = [await call_number(nursery, conn, number) for number in range(400)]
        assert conn.statistics().in_flight == 400
        await lose(peer)
        await finish(calls)
    assert numbers(peer) == numbers(second) == list(range(400))


async def test_first_what_was_sent_then_what_was_queued_then_what_is_new(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    answer_everything(second)
    async with open_over(peer, second, settings=SOON) as conn:
        calls = [await call_number(nursery, conn, number) for number in range(4)]
        await block_writer(peer)
        calls += [await call_number(nursery, conn, number) for number in range(4, 8)]
        await lose(peer)
        calls += [await call_number(nursery, conn, number) for number in range(8, 12)]
        await finish(calls)
        await (await call_number(nursery, conn, 12)).value()
    assert numbers(peer) == list(range(4))
    assert numbers(second) == list(range(13))


async def test_who_waits_at_the_door_comes_after_who_is_inside(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    async with open_over(peer, second, settings=SOON.replace(max_in_flight=4)) as conn:
        calls = [await call_number(nursery, conn, number) for number in range(6)]
        await lose(peer)
        calls += [await call_number(nursery, conn, number) for number in range(6, 8)]
        now = conn.statistics()
        assert (now.in_flight, now.waiting) == (4, 4)
        for number in range(8):
            request = await second.receive()
            assert numbers(second)[number] == number
            done = event_read() if request.command == READ else written()
            second.send(request.command + 1, request.correlation, done)
            await calls[number].value()
    assert numbers(second) == list(range(8))


async def test_the_order_is_kept_over_sessions_that_came_to_nothing(nursery: trio.Nursery) -> None:
    """Each let us in, and took nothing after that."""
    *peers, last = [Peer(mute=[Command.PING]) for _ in range(5)]
    answer_everything(last)
    async with open_over(first := Peer(), *peers, last, settings=SOON) as conn:
        calls = []
        await block_writer(first)
        for number, peer in enumerate([first, *peers]):
            if peer is not first:
                await let_in_and_block(peer)
            calls += [await call_number(nursery, conn, 2 * number)]
            await lose(peer)
            calls += [await call_number(nursery, conn, 2 * number + 1)]
        await let_in(last)
        await finish(calls)
    assert numbers(last) == list(range(10))


async def let_in(peer: Peer) -> None:
    """Answer the ping of the handshake."""
    ping = await peer.receive(Command.PING)
    peer.send(Command.PONG, ping.correlation)
    await settle()


async def let_in_and_block(peer: Peer) -> None:
    """Answer the ping of the handshake, and take nothing any more."""
    ping = await peer.receive(Command.PING)
    await block_writer(peer)
    peer.send(Command.PONG, ping.correlation)
    await settle()


async def test_subscriptions_come_before_all_requests(nursery: trio.Nursery) -> None:
    """They were there before. What has to be looked for comes after what is certain."""
    peer, second = Peer(), Peer()
    answer_everything(second)
    async with open_over(peer, second, settings=SOON) as conn:
        nursery.start_soon(confirm, peer)
        async with conn.subscribe_live("live"):
            calls = [await call_number(nursery, conn, number) for number in range(3)]
            calls.append(Call(nursery, conn.append, "other", new_events(1), expected=ANY))
            await settle()
            await lose(peer)
            calls.append(await call_number(nursery, conn, 4))
            nursery.start_soon(confirm, second)
            await finish(calls)
    assert [request.command for request in asked(second)] == [
        Command.SUBSCRIBE_TO_STREAM,
        *(READ, WRITE, READ, READ),
        READ_BACKWARD,
        WRITE,
        Command.UNSUBSCRIBE_FROM_STREAM,
    ]


# --- a frame that kills


def kill(peer: Peer, command: int) -> None:
    """Whoever sends this command to the stream "poison" has its connection cut."""

    def answer(request: Request) -> None:
        message: Any = request.message
        if message.event_stream_id == "poison":
            peer.hang_up()
        elif command == READ:
            peer.send(READ_DONE, request.correlation, event_read())
        else:
            peer.send(WRITE_DONE, request.correlation, written())

    peer.handlers[command] = answer


POISON: list[tuple[int, Callable[[Connection], Any], type[Exception]]] = [
    (READ, lambda conn: conn.read_event("poison", 0), ConnectionLost),
    (WRITE, lambda conn: conn.append("poison", new_events(1), expected=3), OutcomeUnknown),
    (WRITE, lambda conn: conn.append("poison", new_events(1)), OutcomeUnknown),
]


@pytest.mark.parametrize(("command", "verb", "error"), POISON)
async def test_a_poison_frame(
    command: int, verb: Callable[[Connection], Any], error: type[Exception], nursery: trio.Nursery
) -> None:
    """It kills two sessions; whoever asks while there is none, or later, is served."""
    peers = [Peer() for _ in range(3)]
    for peer in peers:
        answer_everything(peer)
        kill(peer, command)
    async with open_over(*peers, settings=SOON) as conn:
        poison = Call(nursery, verb, conn)
        await settle()
        others = []
        for _ in range(20):
            others.append(Call(nursery, conn.read_event, "good", 0))
            others.append(Call(nursery, conn.append, "good", new_events(1), expected=3))
            await trio.sleep(0.2)
        assert isinstance(await poison.error(), error)
        await finish(others)
        await trio.sleep(20)
        assert conn.statistics().reconnects == 2
    assert [len([request for request in asked(peer) if is_poison(request)]) for peer in peers] == [1, 1, 0]


def is_poison(request: Request) -> bool:
    message: Any = request.message
    return request.command in {READ, WRITE} and message.event_stream_id == "poison"


# --- the door


async def test_places_and_bytes_while_there_is_no_session(nursery: trio.Nursery) -> None:
    """What was sent counts again: all of it waits to be sent."""
    peer, second = Peer(), Peer()
    answer_everything(second)
    async with open_over(peer, second, settings=SOON.replace(max_in_flight=6)) as conn:
        calls = [append_of(nursery, conn, FRAME) for _ in range(4)]
        await settle()
        assert conn.statistics().queued_bytes == 0
        size = sum(len(request.payload) + 22 for request in peer.unanswered())
        await lose(peer)
        now = conn.statistics()
        assert (now.in_flight, now.waiting, now.queued_bytes) == (4, 0, size)
        calls += [append_of(nursery, conn, FRAME) for _ in range(4)]
        await settle()
        now = conn.statistics()
        assert (now.in_flight, now.waiting, now.queued_bytes) == (6, 2, size * 6 // 4)
        await finish(calls)


def append_of(nursery: trio.Nursery, conn: Connection, size: int) -> Call:
    return Call(nursery, conn.append, "s", NewEvent("t", bytes(size)), expected=3)


async def test_what_is_held_leaves_less_room_at_the_door(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    answer_everything(second)
    async with open_over(peer, second, settings=SOON.replace(max_queued_bytes=3 * FRAME)) as conn:
        await lose(peer)
        calls = [append_of(nursery, conn, FRAME) for _ in range(6)]
        await settle()
        now = conn.statistics()
        assert (now.in_flight, now.waiting) == (2, 4)
        assert now.queued_bytes <= 3 * FRAME
        await finish(calls)


async def test_a_lost_session_lets_nobody_in(nursery: trio.Nursery) -> None:
    """What was queued is not gone: it waits for the next."""
    *peers, last = [Peer(mute=[Command.PING]) for _ in range(4)]
    answer_everything(last)
    async with open_over(first := Peer(), *peers, last, settings=SOON.replace(max_queued_bytes=3 * FRAME)) as conn:
        await block_writer(first)
        calls = [append_of(nursery, conn, FRAME) for _ in range(30)]
        for peer in (first, *peers):
            if peer is not first:
                await let_in_and_block(peer)
            for _ in range(2):
                await settle()
                now = conn.statistics()
                assert (now.in_flight, now.waiting) == (2, 28)
                assert now.queued_bytes <= 3 * FRAME
                await lose(peer)
        await let_in(last)
        await finish(calls)


# --- what its caller gave up before it was sent, is never sent


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
async def test_never_sent(how: str, nursery: trio.Nursery) -> None:
    """At the door, behind a blocked writer, and while there is no session."""
    peer, second = Peer(), Peer(mute=[Command.PING])
    answer_everything(second)
    settings = AT_ONCE.replace(max_in_flight=8, operation_timeout=4, heartbeat_timeout=100)
    async with open_over(peer, second, settings=settings) as conn:
        await block_writer(peer)
        calls = [await call_number(nursery, conn, number) for number in range(4)]
        await lose(peer)
        calls += [await call_number(nursery, conn, number) for number in range(4, 12)]
        now = conn.statistics()
        # The ping that a session begins with is one of the eight.
        assert (now.in_flight, now.waiting) == (8, 5)
        if how == "cancelled":
            for call in calls:
                call.scope.cancel()
            await settle()
        else:
            for call in calls:
                assert isinstance(await call.error(), OperationTimedOut)
            assert trio.current_time() == pytest.approx(4)
            await settle()
        assert conn.statistics().in_flight == 1
        await let_in(second)
        assert_nothing_left(conn)
    assert numbers(peer) == numbers(second) == []


@pytest.mark.parametrize("number", [0, 1])
async def test_out_of_time_in_the_moment_a_session_comes(
    number: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Chance decides who of them is first; but what its caller gave up is not sent."""
    settings = AT_ONCE.replace(operation_timeout=8, attempt_timeout=10, heartbeat_interval=100)
    for _ in range(20):
        peer, second = Peer(), Peer(mute=[Command.PING])
        answer_everything(second)
        async with open_over(peer, second, settings=settings) as conn:
            await lose(peer)
            call = await call_number(nursery, conn, number)
            await trio.sleep(6)
            ping = await second.receive(Command.PING)
            second.send(Command.PONG, ping.correlation)
            # Time passes while everybody has something to do, as it does outside of tests.
            autojump_clock.jump(2)
            try:
                await call.value()
                came = True
            except OperationTimedOut:
                came = False
            await settle()
            assert numbers(second) == ([number] if came else [])


async def test_cancelled_at_random(nursery: trio.Nursery) -> None:
    """Beside others, over several sessions: nothing of it is left, and nobody else is the worse for it."""
    random = Random(5)
    peers = [Peer() for _ in range(8)]
    for peer in peers[1::2]:
        answer_everything(peer)
    async with open_over(*peers, settings=SOON.replace(max_in_flight=20, operation_timeout=1000)) as conn:
        calls = []
        for peer in peers[:-1]:
            for number in range(30):
                calls.append(await call_number(nursery, conn, number))
                if random.random() < 0.3:
                    random.choice(calls).scope.cancel()
            await lose(peer)
            await trio.sleep(SOON.max_reconnect_delay * random.random())
        await trio.sleep(SOON.max_reconnect_delay)
        for call in calls:
            await call._done.wait()


@pytest.mark.parametrize("number", [0, 1])
async def test_out_of_time_while_it_waits_for_a_session(number: int, nursery: trio.Nursery) -> None:
    """A read has changed nothing; a write that was sent may have."""
    peer = Peer()
    async with open_connection(MUCH_LATER, connect=peer.connect) as conn:
        call = await call_number(nursery, conn, number)
        await lose(peer)
        unsent = await call_number(nursery, conn, number)
        error = await call.error()
        assert isinstance(error, OutcomeUnknown if number else OperationTimedOut)
        assert "there is no connection at the moment" in str(error)
        assert isinstance(await unsent.error(), OperationTimedOut)
        assert trio.current_time() == pytest.approx(MUCH_LATER.operation_timeout)
        assert_nothing_left(conn)

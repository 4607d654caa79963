"""Who waits for a look into a stream: many for one, over lost sessions, until they have gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import NotHandled, Written, event_read, not_handled, not_written, page, written
from tests.helpers import assert_nothing_left, new_events
from tests.kinds import NO_STREAM_YET, READ_BACKWARD
from tests.lost import AT_ONCE, MUCH_LATER, answer_all, asked, lose, not_handled_by, open_over, settle
from tests.peer import ANONYMOUS, Call, Network, Peer, open_to
from trio_extreme import (
    ConnectionClosed,
    Credentials,
    OutcomeUnknown,
    WriteResult,
    WrongExpectedVersion,
    open_connection,
)
from trio_extreme.calls import ASK_AGAIN_DELAY
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from tests.peer import Request
    from trio_extreme import Connection

pytestmark = pytest.mark.usefixtures("autojump_clock")

WRITE_DONE = Command.WRITE_EVENTS_COMPLETED
ATTEMPT = ANONYMOUS.attempt_timeout


async def append(nursery: trio.Nursery, conn: Connection, peer: Peer, stream: str = "s", **options: Any) -> Call:
    """An append whose request has come to the peer."""
    call = Call(nursery, conn.append, stream, new_events(1), **options)
    await peer.receive(Command.WRITE_EVENTS)
    return call


def absent(peer: Peer, request: Request) -> None:
    peer.send(request.command + 1, request.correlation, NO_STREAM_YET[1])


def write_all(peer: Peer) -> None:
    answer_all(peer, Command.WRITE_EVENTS, (WRITE_DONE, written(7, 7)))


def streams(peer: Peer, command: int) -> list[str]:
    """The streams of the requests of a command that came."""
    messages: list[Any] = [request.message for request in asked(peer) if request.command == command]
    return [message.event_stream_id for message in messages]


# --- one look for all


@pytest.mark.parametrize("how", ["lost", "overdue"])
async def test_one_look_a_stream(how: str, nursery: trio.Nursery) -> None:
    """What is not there is sent again, to each stream in the order in which it came."""
    peer, second = Peer(), Peer()
    peers = (peer, second) if how == "lost" else (peer,)
    follower = peers[-1]
    answer_all(follower, READ_BACKWARD, NO_STREAM_YET)
    async with open_over(*peers) as conn:
        names = ["s", "t", "s", "u", "s", "t"]
        batches = [new_events(1, number) for number in range(6)]
        calls = []
        for stream, events in zip(names, batches, strict=True):
            calls.append(Call(nursery, conn.append, stream, events))
            await peer.receive(Command.WRITE_EVENTS)
        if how == "lost":
            peer.hang_up()
        again = [await follower.receive(Command.WRITE_EVENTS) for _ in names]
        for request in again:
            follower.send(WRITE_DONE, request.correlation, written())
        for call in calls:
            await call.value()
    assert sorted(streams(follower, READ_BACKWARD)) == ["s", "t", "u"]
    for stream in "stu":
        wanted = [events[0].data for name, events in zip(names, batches, strict=True) if name == stream]
        messages: list[Any] = [request.message for request in again]
        assert [message.events[0].data for message in messages if message.event_stream_id == stream] == wanted


async def test_each_is_told_its_own(nursery: trio.Nursery) -> None:
    """One is there, of one something is there, one is not: a look that is not over by then says nothing of it."""
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        batches = [new_events(2) for _ in range(3)]
        calls = [Call(nursery, conn.append, "s", events) for events in batches]
        for _ in calls:
            await peer.receive(Command.WRITE_EVENTS)
        peer.hang_up()
        request = await second.receive(READ_BACKWARD)
        message = page([2, 1, 0], -1, end=True, last=2)
        for found, event in zip(message.events, [batches[1][0], batches[0][1], batches[0][0]], strict=True):
            found.event.event_id = event.id_bytes
        second.send(READ_BACKWARD + 1, request.correlation, message)
        assert await calls[0].value() == WriteResult(0, 1, None)
        assert isinstance(await calls[1].error(), OutcomeUnknown)
        again: Any = (request := await second.receive(Command.WRITE_EVENTS)).message
        assert again.events[0].event_id == batches[2][0].id_bytes
        second.send(WRITE_DONE, request.correlation, written(3, 4))
        assert (await calls[2].value()).first == 3


async def test_others_may_not_read_what_we_may(nursery: trio.Nursery) -> None:
    """A look is taken as whoever appends."""
    peer, second = Peer(), Peer()
    write_all(second)
    answer_all(second, READ_BACKWARD, NO_STREAM_YET)
    async with open_over(peer, second) as conn:
        asking = [None, Credentials("ops", "secret"), None]
        calls = [await append(nursery, conn, peer, credentials=credentials) for credentials in asking]
        peer.hang_up()
        for call in calls:
            await call.value()
    looks = [request.credentials for request in asked(second) if request.command == READ_BACKWARD]
    assert len(looks) == 2
    assert set(looks) == set(asking)


async def test_who_comes_while_there_is_a_look_waits_for_the_next(nursery: trio.Nursery) -> None:
    """What it has seen already may have been before."""
    peer = Peer()
    async with open_to(peer) as conn:
        first = await append(nursery, conn, peer)
        await trio.sleep(1)
        later = await append(nursery, conn, peer)
        look = await peer.receive(READ_BACKWARD)
        await trio.sleep(2)
        assert streams(peer, READ_BACKWARD) == ["s"]
        write_all(peer)
        absent(peer, look)
        await first.value()
        absent(peer, await peer.receive(READ_BACKWARD))
        await later.value()


# --- a node that does not answer


async def test_a_node_that_is_not_ready_to_be_asked(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    write_all(second)
    async with open_over(peer, second) as conn:
        call = await append(nursery, conn, peer)
        peer.hang_up()
        for reason in (NotHandled.NotReady, NotHandled.TooBusy):
            not_handled_by(second, await second.receive(READ_BACKWARD), reason)
        absent(second, await second.receive(READ_BACKWARD))
        await call.value()
        assert trio.current_time() == pytest.approx(2 * ASK_AGAIN_DELAY)


async def test_a_look_that_nobody_answers_in_time(nursery: trio.Nursery) -> None:
    """Under another id, so that the late answer to the first finds nobody."""
    peer, second = Peer(), Peer()
    write_all(second)
    async with open_over(peer, second) as conn:
        call = await append(nursery, conn, peer)
        peer.hang_up()
        first = await second.receive(READ_BACKWARD)
        look = await second.receive(READ_BACKWARD)
        assert trio.current_time() == pytest.approx(ATTEMPT)
        absent(second, first)
        await settle()
        assert not call.done
        absent(second, look)
        await call.value()
        assert conn.statistics().stray_frames == 1


# --- the session dies


def hang_up(peer: Peer, look: Request) -> None:
    peer.hang_up()


def break_for_all(peer: Peer, look: Request) -> None:
    """Of bytes that are none of this protocol, which were not for the look."""
    peer.send_bytes(bytes(4))


def garble(peer: Peer, look: Request) -> None:
    """The look itself is answered with no answer."""
    peer.send(look.command + 1, look.correlation, b"\xff\xff")


def answer_another_request(peer: Peer, look: Request) -> None:
    peer.send(Command.READ_EVENT_COMPLETED, look.correlation, event_read())


each_end = pytest.mark.parametrize("end", [hang_up, break_for_all, garble, answer_another_request])


@each_end
async def test_a_look_is_begun_anew(end: Callable[[Peer, Request], None], nursery: trio.Nursery) -> None:
    """What was seen in the last session counts for nothing."""
    peer, second, third = Peer(), Peer(), Peer()
    write_all(third)
    async with open_over(peer, second, third) as conn:
        call = await append(nursery, conn, peer)
        peer.hang_up()
        first = await second.receive(READ_BACKWARD)
        second.send(READ_BACKWARD + 1, first.correlation, page([9, 8], 7, last=9))
        end(second, await second.receive(READ_BACKWARD))
        look = await third.receive(READ_BACKWARD)
        message: Any = look.message
        assert (message.from_event_number, message.max_count) == (-1, 8)
        absent(third, look)
        assert (await call.value()).first == 7


@each_end
async def test_two_sessions_that_died_while_looking(
    end: Callable[[Peer, Request], None], nursery: trio.Nursery
) -> None:
    """They may have died of it: no third one tries, and everybody else goes on."""
    peer, second, third, fourth = Peer(), Peer(), Peer(), Peer()
    async with open_over(peer, second, third, fourth) as conn:
        call = await append(nursery, conn, peer)
        peer.hang_up()
        for follower in (second, third):
            end(follower, await follower.receive(READ_BACKWARD))
        assert isinstance(await call.error(), OutcomeUnknown)
        await conn.ping()
    assert [request.command for request in asked(fourth)] == [Command.PING]


async def test_a_session_that_died_while_looking_for_who_has_gone(nursery: trio.Nursery) -> None:
    """Who comes later has two sessions of their own."""
    peers = peer, second, third, fourth = [Peer() for _ in range(4)]
    async with open_over(*peers) as conn:
        first = await append(nursery, conn, peer)
        peer.hang_up()
        await second.receive(READ_BACKWARD)
        await lose(second)
        first.scope.cancel()
        await settle()
        third.unanswered()
        later = await append(nursery, conn, third)
        await third.receive(READ_BACKWARD)
        third.hang_up()
        write_all(fourth)
        absent(fourth, await fourth.receive(READ_BACKWARD))
        await later.value()


async def test_a_refusal_is_remembered_over_a_lost_session(nursery: trio.Nursery) -> None:
    """It is looked for, and not sent again: it was refused."""
    peer, second, third = Peer(), Peer(), Peer()
    async with open_over(peer, second, third) as conn:
        call = await append(nursery, conn, peer, expected=3)
        peer.hang_up()
        again = await second.receive(Command.WRITE_EVENTS)
        second.send(WRITE_DONE, again.correlation, not_written(Written.WrongExpectedVersion))
        await second.receive(READ_BACKWARD)
        # An answer that comes twice means nothing the second time.
        second.send(WRITE_DONE, again.correlation, written(9, 9))
        await settle()
        assert not call.done
        second.hang_up()
        absent(third, await third.receive(READ_BACKWARD))
        unknown = await call.error()
        assert isinstance(unknown, OutcomeUnknown)
        assert isinstance(unknown.__cause__, WrongExpectedVersion)
    assert [request.command for request in asked(third)] == [READ_BACKWARD]


async def test_the_append_itself_is_not_sent_a_third_time(nursery: trio.Nursery) -> None:
    """Not there both times; but two sessions died of it."""
    peer, second, third = Peer(), Peer(), Peer()
    async with open_over(peer, second, third) as conn:
        call = await append(nursery, conn, peer)
        peer.hang_up()
        absent(second, await second.receive(READ_BACKWARD))
        await second.receive(Command.WRITE_EVENTS)
        second.hang_up()
        assert isinstance(await call.error(), OutcomeUnknown)
        await conn.ping()
    assert [request.command for request in asked(third)] == [Command.PING]


# --- nobody waits any more


async def test_cancelled_while_there_is_a_look(nursery: trio.Nursery) -> None:
    """It ends at once; another begins anew."""
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        call = await append(nursery, conn, peer)
        peer.hang_up()
        look = await second.receive(READ_BACKWARD)
        call.scope.cancel()
        await settle()
        assert_nothing_left(conn)
        absent(second, look)
        await conn.ping()
        assert conn.statistics().stray_frames == 1
        other = await append(nursery, conn, second)
        absent(second, await second.receive(READ_BACKWARD))
        again = await second.receive(Command.WRITE_EVENTS)
        second.send(WRITE_DONE, again.correlation, written())
        await other.value()
    assert streams(second, READ_BACKWARD) == ["s", "s"]


async def test_one_of_two_is_cancelled(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    write_all(second)
    async with open_over(peer, second) as conn:
        gone, staying = await append(nursery, conn, peer), await append(nursery, conn, peer)
        peer.hang_up()
        look = await second.receive(READ_BACKWARD)
        gone.scope.cancel()
        await settle()
        absent(second, look)
        assert (await staying.value()).first == 7
    assert len(streams(second, Command.WRITE_EVENTS)) == 1


async def test_cancelled_while_there_is_no_session(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    settings = AT_ONCE.replace(reconnect_delay=1, max_reconnect_delay=1)
    async with open_over(peer, second, settings=settings) as conn:
        call = await append(nursery, conn, peer)
        await lose(peer)
        call.scope.cancel()
        await settle()
        assert_nothing_left(conn)
        await conn.ping()
    assert [request.command for request in asked(second)] == [Command.PING]


@pytest.mark.parametrize("answer", ["silence", "not ready"])
async def test_out_of_time_while_there_is_a_look(answer: str, nursery: trio.Nursery) -> None:
    """The look ends with whoever wanted it."""
    peer, second = Peer(), Peer()
    if answer == "not ready":
        answer_all(second, READ_BACKWARD, (Command.NOT_HANDLED, not_handled(NotHandled.NotReady)))
    async with open_over(peer, second, settings=AT_ONCE.replace(operation_timeout=20)) as conn:
        call = await append(nursery, conn, peer)
        peer.hang_up()
        assert isinstance(await call.error(), OutcomeUnknown)
        assert trio.current_time() == pytest.approx(20)
        await settle()
        assert_nothing_left(conn)
        looks = len(streams(second, READ_BACKWARD))
        await trio.sleep(100)
        assert len(streams(second, READ_BACKWARD)) == looks


async def test_out_of_time_before_there_is_a_session(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_connection(MUCH_LATER, connect=peer.connect) as conn:
        call = await append(nursery, conn, peer)
        await lose(peer)
        unknown = await call.error()
        assert isinstance(unknown, OutcomeUnknown)
        assert trio.current_time() == pytest.approx(MUCH_LATER.operation_timeout)
        assert_nothing_left(conn)


async def test_out_of_time_in_the_moment_it_is_told(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Chance decides who of them is first; but what its caller gave up is not sent."""
    for _ in range(20):
        peer, second = Peer(), Peer()
        async with open_over(peer, second, settings=AT_ONCE.replace(operation_timeout=8)) as conn:
            call = await append(nursery, conn, peer)
            await trio.sleep(6)
            peer.hang_up()
            absent(second, await second.receive(READ_BACKWARD))
            # Time passes while everybody has something to do, as it does outside of tests.
            autojump_clock.jump(2)
            assert isinstance(await call.error(), OutcomeUnknown)
            await settle()
            assert streams(second, Command.WRITE_EVENTS) == []


@pytest.mark.parametrize("when", ["offline", "looking"])
async def test_the_block_is_left(when: str, nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    settings = MUCH_LATER if when == "offline" else AT_ONCE
    async with open_connection(settings, connect=Network(peer, second).connect) as conn:
        call = await append(nursery, conn, peer)
        await lose(peer)
    unknown = await call.error()
    assert isinstance(unknown, OutcomeUnknown)
    assert isinstance(unknown.__cause__, ConnectionClosed)
    assert_nothing_left(conn)

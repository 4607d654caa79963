"""What becomes of each kind of request when its session dies: what the next one sends, and what its caller is told."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import trio

from tests.answers import NotHandled
from tests.kinds import (
    KINDS,
    NO_STREAM_YET,
    READ_BACKWARD,
    Kind,
    each,
    each_kind,
    each_page,
    of_kind,
    ready,
    send,
)
from tests.lost import AT_ONCE, answer_all, asked, block_writer, lose, not_handled_by, open_over, settle
from tests.peer import Call, Peer
from trio_extreme import ConnectionLost, OperationTimedOut, OutcomeUnknown
from trio_extreme.calls import ASK_AGAIN_DELAY
from trio_extreme.operations.base import Resend
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from tests.peer import Request

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def check_unknown(call: Call, kind: Kind) -> OutcomeUnknown:
    error = await call.error()
    assert isinstance(error, OutcomeUnknown)
    assert kind.writes(error.event_ids)
    return error


# --- never sent: sent by the next session, whatever it is


@each_kind
async def test_still_queued(kind: Kind, nursery: trio.Nursery) -> None:
    peer, second = Peer(), ready(kind)
    async with open_over(peer, second) as conn:
        await block_writer(peer)
        call = Call(nursery, kind.verb, conn)
        await settle()
        await lose(peer)
        await call.value()
    assert asked(peer) == []
    assert len(of_kind(second, kind)) == 1


@each_kind
async def test_still_at_the_door(kind: Kind, nursery: trio.Nursery) -> None:
    peer, second = Peer(), ready(kind)
    async with open_over(peer, second, settings=AT_ONCE.replace(max_in_flight=1)) as conn:
        await block_writer(peer)
        ping = Call(nursery, conn.ping)
        await settle()
        call = Call(nursery, kind.verb, conn)
        await settle()
        assert conn.statistics().waiting == 1
        await lose(peer)
        await call.value()
        await ping.value()
    assert asked(peer) == []
    assert len(of_kind(second, kind)) == 1 + (kind.command == Command.PING)


@each_kind
async def test_asked_for_while_there_is_no_connection(kind: Kind, nursery: trio.Nursery) -> None:
    peer, second = Peer(), ready(kind)
    settings = AT_ONCE.replace(reconnect_delay=1, max_reconnect_delay=1)
    async with open_over(peer, OSError("not yet"), second, settings=settings) as conn:
        await lose(peer)
        call = Call(nursery, kind.verb, conn)
        await settle()
        assert not call.done
        await call.value()
    assert len(of_kind(second, kind)) == 1


@each_kind
async def test_not_handled_and_then_the_session_died(kind: Kind, nursery: trio.Nursery) -> None:
    """It was not executed: whatever it is, it is sent again, a little after the answer."""
    peer, second = Peer(), ready(kind)
    async with open_over(peer, second) as conn:
        call, request = await send(nursery, conn, peer, kind)
        not_handled_by(peer, request, NotHandled.NotReady)
        await lose(peer)
        assert of_kind(second, kind) == []
        await call.value()
    (again,) = of_kind(second, kind)
    assert again.payload == request.payload
    assert again.correlation != request.correlation


# --- sent, and the session died


@each(Resend.AGAIN, Resend.AS_ONCE, Resend.SAME_IDS)
async def test_sent_again(kind: Kind, nursery: trio.Nursery) -> None:
    """With the same bytes, and so the same event ids, but under a new correlation id."""
    peer, second = Peer(), ready(kind)
    async with open_over(peer, second) as conn:
        call, request = await send(nursery, conn, peer, kind)
        await lose(peer)
        await call.value()
    (again,) = of_kind(second, kind)
    assert again.payload == request.payload
    assert again.correlation != request.correlation
    assert again.correlation[:8] != request.correlation[:8]


@each_page
async def test_a_smaller_page(kind: Kind, nursery: trio.Nursery) -> None:
    """A server may die of the same large page for ever."""
    peer, second = Peer(), ready(kind)
    async with open_over(peer, second) as conn:
        call, request = await send(nursery, conn, peer, kind)
        await lose(peer)
        await call.value()
    (again,) = of_kind(second, kind)
    asked_for = [message.max_count for message in (message_of(request), message_of(again))]
    assert asked_for == [8, 2]


def message_of(request: Request) -> Any:
    return request.message


@each(Resend.LOOK_UP)
async def test_looked_for_and_then_sent_again(kind: Kind, nursery: trio.Nursery) -> None:
    peer, second = Peer(), ready(kind)
    answer_all(second, READ_BACKWARD, NO_STREAM_YET)
    async with open_over(peer, second) as conn:
        call, request = await send(nursery, conn, peer, kind)
        await lose(peer)
        assert (await call.value()).last == 5
    look, again = asked(second)
    assert look.command == READ_BACKWARD
    assert again.payload == request.payload
    if kind.command == Command.WRITE_EVENTS:
        assert kind.writes(tuple(UUID(bytes_le=event.event_id) for event in message_of(again).events))
    assert again.correlation != request.correlation


@each(Resend.NEVER)
async def test_not_known(kind: Kind, nursery: trio.Nursery) -> None:
    """Told at once: the next session would not find out."""
    peer, second = Peer(), ready(kind)
    async with open_over(peer, second) as conn:
        call, _ = await send(nursery, conn, peer, kind)
        await lose(peer)
        error = await check_unknown(call, kind)
        assert isinstance(error.__cause__, ConnectionLost)
        await conn.ping()
    assert of_kind(second, kind) == []


@each(Resend.AGAIN, Resend.AS_ONCE, Resend.SAME_IDS)
async def test_not_handled_and_sent_again_and_then_the_session_died(kind: Kind, nursery: trio.Nursery) -> None:
    """The attempt that was not handled is over: only one was in flight."""
    peer, second = Peer(), ready(kind)
    async with open_over(peer, second) as conn:
        call, request = await send(nursery, conn, peer, kind)
        not_handled_by(peer, request, NotHandled.NotReady)
        await peer.receive(kind.command)
        await lose(peer)
        await call.value()
    assert len(of_kind(second, kind)) == 1


@each(Resend.AGAIN, Resend.AS_ONCE, Resend.SAME_IDS, Resend.LOOK_UP)
async def test_the_deadline_is_that_of_the_call(kind: Kind, nursery: trio.Nursery) -> None:
    """However many attempts it takes, and however long there is no session."""
    peer, second = Peer(), Peer()
    settings = AT_ONCE.replace(operation_timeout=20, attempt_timeout=15)
    async with open_over(peer, second, settings=settings) as conn:
        call, _ = await send(nursery, conn, peer, kind)
        await trio.sleep(12)
        if kind.command == Command.PING:
            second.handlers[Command.PING] = partial(answer_first_ping, second)
        peer.hang_up()
        assert isinstance(await call.error(), OperationTimedOut if kind.resend is Resend.AGAIN else OutcomeUnknown)
        assert trio.current_time() == pytest.approx(20)


# --- sent, and two sessions in a row died


@each(Resend.AGAIN, Resend.AS_ONCE, Resend.SAME_IDS, Resend.LOOK_UP)
async def test_two_sessions_died_of_it(kind: Kind, nursery: trio.Nursery) -> None:
    """It may be what they die of: no third one gets it, and everybody else goes on."""
    peers = peer, second, third = Peer(), Peer(), ready(kind)
    if kind.resend is Resend.LOOK_UP:
        answer_all(second, READ_BACKWARD, NO_STREAM_YET)
    async with open_over(*peers) as conn:
        call, _ = await send(nursery, conn, peer, kind)
        await lose_while_asked(peer, second, kind)
        await lose(second)
        if kind.is_feed:
            await call.value()
        elif kind.resend is Resend.AGAIN:
            assert isinstance(await call.error(), ConnectionLost)
        else:
            await check_unknown(call, kind)
        await conn.ping()
    assert len(of_kind(third, kind)) == kind.is_feed + (kind.command == Command.PING)


async def lose_while_asked(peer: Peer, following: Peer, kind: Kind) -> None:
    """The session dies, and the next one has got the request too, and does not answer it."""
    if kind.command == Command.PING:
        following.handlers[Command.PING] = partial(answer_first_ping, following)
    else:
        following.handlers.pop(kind.command, None)
    peer.hang_up()
    assert (await following.receive()).command == kind.command


def answer_first_ping(peer: Peer, request: Request) -> None:
    """The one of the handshake."""
    del peer.handlers[Command.PING]
    peer.send(Command.PONG, request.correlation)


@each_page
async def test_of_one_event_two_sessions_may_die(kind: Kind, nursery: trio.Nursery) -> None:
    peers = [Peer() for _ in range(5)]
    async with open_over(*peers) as conn:
        call = Call(nursery, kind.verb, conn)
        counts = []
        for peer in peers[:4]:
            counts.append(message_of(await peer.receive(kind.command)).max_count)
            await lose(peer)
        assert counts == [8, 2, 1, 1]
        assert type(await call.error()) is ConnectionLost
        await conn.ping()
    assert of_kind(peers[-1], kind) == []


@each(Resend.AGAIN, Resend.AS_ONCE, Resend.SAME_IDS, Resend.LOOK_UP)
async def test_two_sessions_that_died_of_it_not_in_a_row(kind: Kind, nursery: trio.Nursery) -> None:
    """The session between them answered, and died of something else."""
    peers = peer, second, third, fourth = Peer(), Peer(), Peer(), ready(kind)
    for follower in (second, third, fourth):
        if kind.resend is Resend.LOOK_UP:
            answer_all(follower, READ_BACKWARD, NO_STREAM_YET)
    async with open_over(*peers) as conn:
        call, _ = await send(nursery, conn, peer, kind)
        await lose_while_asked(peer, second, kind)
        not_handled_by(second, of_kind(second, kind)[-1], NotHandled.NotReady)
        await lose_while_asked(second, third, kind)
        await lose(third)
        await call.value()


async def test_the_delay_of_a_node_that_was_not_ready_is_kept(nursery: trio.Nursery) -> None:
    """Over the loss of the session, too, and is no reason to ask twice."""
    kind = next(kind for kind in KINDS if kind.command == Command.READ_EVENT)
    peer, second = Peer(), ready(kind)
    async with open_over(peer, second) as conn:
        call, request = await send(nursery, conn, peer, kind)
        not_handled_by(peer, request, NotHandled.TooBusy)
        await lose(peer)
        await call.value()
        assert trio.current_time() == pytest.approx(ASK_AGAIN_DELAY)
    assert len(asked(second)) == 1

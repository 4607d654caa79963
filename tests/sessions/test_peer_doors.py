"""A server that breaks the rules when it is met, and when it is left, played by the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.peer import ANONYMOUS, ANSWERS, Network, Peer, encode
from tests.sessions.played import (
    NOBODY,
    PLAYED,
    Reply,
    answered,
    check_alive,
    open_played,
    reply_to,
)
from tests.sessions.story import client_tasks
from trio_extreme import (
    BadRequest,
    ConnectFailed,
    Connection,
    ConnectionClosed,
    FrameTooLarge,
    NewEvent,
    NotAuthenticated,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    Settings,
    TrioExtremeError,
    open_connection,
)
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from trio.testing import MockClock

# Opening.


as_whoever = pytest.mark.parametrize("settings", [PLAYED, ANONYMOUS.replace(first_attempts=1)], ids=["admin", "nobody"])


async def open_in_vain(peer: Peer, settings: Settings = PLAYED) -> ConnectFailed:
    with trio.fail_after(20), pytest.raises(ConnectFailed) as caught:
        async with open_connection(settings, connect=peer.connect):
            pytest.fail("that was no server")
    assert len(caught.value.attempts) == 1
    assert client_tasks() == []
    return caught.value


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bytes(4), "length 0"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the port of the web interface"),
        (b"\x15\x03\x03\x00\x02\x02\x46" + bytes(22), "this is a TLS port"),
        (encode(Command.BAD_REQUEST, NO_CORRELATION, b"go away"), "go away"),
        (b"", "before it said a word"),
    ],
)
async def test_a_peer_that_is_no_event_store(data: bytes, text: str, autojump_clock: MockClock) -> None:
    peer = Peer()
    peer.send_bytes(data)
    peer.hang_up()
    assert text in str(await open_in_vain(peer))


@as_whoever
async def test_a_peer_that_says_nothing(settings: Settings, autojump_clock: MockClock) -> None:
    await open_in_vain(Peer(mute=ANSWERS), settings)


@as_whoever
@pytest.mark.parametrize("mute", [[Command.PING], [Command.IDENTIFY_CLIENT, Command.PING]], ids=["ping", "both"])
async def test_a_peer_that_only_lives(settings: Settings, mute: list[Command], autojump_clock: MockClock) -> None:
    """It answers heartbeats and no ping: no server is that old."""
    error = await open_in_vain(Peer(mute=mute), settings)
    assert isinstance(error.attempts[0], OperationTimedOut)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answered(Command.BAD_REQUEST, b"no\nERROR: a lie\x1b[31m"), BadRequest),
        (answered(Command.PONG, bytes(10_000)), FrameTooLarge),
        (answered(Command.PONG + 100), ProtocolError),
    ],
)
async def test_a_peer_that_gives_no_answer_to_the_ping(
    reply: Reply, kind: type[TrioExtremeError], autojump_clock: MockClock
) -> None:
    peer = Peer()
    reply_to(peer, Command.PING, reply)
    error = await open_in_vain(peer, PLAYED.replace(max_frame_size=4096))
    assert isinstance(error.attempts[0], kind)
    assert str(error).isprintable()


async def test_a_wrong_password_is_told_at_once(autojump_clock: MockClock) -> None:
    peer = Peer()
    reply_to(peer, Command.PING, answered(Command.NOT_AUTHENTICATED, b"Not Authenticated"))
    network = Network(peer)
    with pytest.raises(NotAuthenticated):
        async with open_connection(PLAYED.replace(first_attempts=5), connect=network.connect):
            pytest.fail("the password is wrong")
    assert network.times == [0]
    assert trio.current_time() < 1


@pytest.mark.parametrize("reply", [answered(Command.BAD_REQUEST), lambda peer, request: None], ids=["no", "silence"])
async def test_servers_before_3_9_4_do_not_know_identify(reply: Reply, autojump_clock: MockClock) -> None:
    """Pitfall 6."""
    peer = Peer()
    reply_to(peer, Command.IDENTIFY_CLIENT, reply)
    async with open_connection(PLAYED, connect=peer.connect) as conn:
        await check_alive(conn, peer)


# Leaving.


@pytest.mark.parametrize("size", [0, 10_000_000])
@pytest.mark.parametrize("hurry", [False, True])
async def test_leaving_takes_less_than_a_second_though_the_peer_is_dead(
    *, size: int, hurry: bool, autojump_clock: MockClock
) -> None:
    """Guarantee 1: nothing is read, messages are unread, a request is in the middle of being sent."""

    async def append(conn: Connection) -> None:
        with pytest.raises((OutcomeUnknown, ConnectionClosed)):
            await conn.append("s", NewEvent("t", bytes(size)))

    async with trio.open_nursery() as calls:
        with trio.CancelScope() as scope:
            async with open_played() as (conn, peer):
                peer.hold()
                calls.start_soon(append, conn)
                await wait_all_tasks_blocked()
                peer.send(Command.STREAM_EVENT_APPEARED, NOBODY, bytes(100_000))
                left_at = trio.current_time()
                if hurry:
                    scope.cancel()
        assert trio.current_time() - left_at < 1
        assert client_tasks() == []

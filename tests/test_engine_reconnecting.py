"""Session after session: what ends one, how the next begins, and what is left of the last."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio
import trio.testing

from tests.answers import event_read
from tests.helpers import assert_nothing_left
from tests.lost import AT_ONCE, MUCH_LATER, Watcher, answer_all, lose, open_over, settle, warnings
from tests.peer import ADMIN, Call, Network, Peer, encode
from tests.sessions.story import client_tasks
from trio_extreme import (
    Connected,
    ConnectionLost,
    OperationTimedOut,
    ProtocolError,
    Reconnecting,
    TrioExtremeError,
    open_connection,
)
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peer import Request

pytestmark = pytest.mark.usefixtures("autojump_clock")

READ, READ_DONE = Command.READ_EVENT, Command.READ_EVENT_COMPLETED

# --- what ends a session


def hang_up(peer: Peer) -> None:
    peer.hang_up()


def say_bad_request(peer: Peer) -> None:
    """To nobody in particular: servers close after that."""
    peer.send(Command.BAD_REQUEST, NO_CORRELATION, b"Bad package")


def break_sending(peer: Peer) -> None:
    peer.break_sending()
    peer.send(Command.HEARTBEAT_REQUEST, bytes(range(16)))


def break_reading(peer: Peer) -> None:
    peer.break_reading(trio.BrokenResourceError("reset"))


def fall_silent(peer: Peer) -> None:
    peer.handlers.clear()


def send_garbage(peer: Peer) -> None:
    peer.send_bytes(bytes(4))


def send_something_huge(peer: Peer) -> None:
    peer.send_bytes(b"\xff\xff\xff\x7f" + bytes(18))


class End(NamedTuple):
    """How a session ends, the error that this is, and after how many seconds it is noticed."""

    bring: Callable[[Peer], None]
    kind: type[TrioExtremeError]
    words: str
    seconds: float = 0


ENDS = [
    End(hang_up, ConnectionLost, "the server closed it"),
    End(say_bad_request, ConnectionLost, "the server says: Bad package"),
    End(break_sending, ConnectionLost, "it broke while sending", 0.2),
    End(break_reading, ConnectionLost, "it broke"),
    End(fall_silent, ConnectionLost, "was silent for 5 s", 5),
    End(send_garbage, ProtocolError, "length 0"),
    End(send_something_huge, ProtocolError, "unasked"),
]
each_end = pytest.mark.parametrize("end", ENDS, ids=[end.bring.__name__ for end in ENDS])


@each_end
async def test_another_session_follows(end: End, nursery: trio.Nursery) -> None:
    """What waits goes over it, whatever the reason; and why it was needed is told."""
    peer, second = Peer(), Peer()
    answer_all(second, READ, (READ_DONE, event_read(7)))
    async with open_over(peer, second) as conn:
        changes = Watcher(nursery, conn)
        read = Call(nursery, conn.read_event, "s", 0)
        await peer.receive(READ)
        end.bring(peer)
        assert (await read.value()).number == 7
        assert trio.current_time() == pytest.approx(end.seconds)
        assert conn.statistics().reconnects == 1
        await settle()
        up, lost, reconnecting, up_again = changes.seen
        assert up == up_again == Connected("localhost", 1113)
        assert type(lost.reason) is end.kind
        assert end.words in str(lost.reason)
        assert reconnecting == Reconnecting(1, 0, lost.reason)


@each_end
async def test_it_is_logged(end: End, caplog: pytest.LogCaptureFixture) -> None:
    peer, second = Peer(), Peer()
    settings = AT_ONCE.replace(host="db.example", port=1234)
    async with open_over(peer, second, settings=settings) as conn:
        end.bring(peer)
        await trio.sleep(end.seconds + 1)
        await conn.ping()
    (line,) = warnings(caplog)
    assert end.words in line
    assert line.endswith("(db.example:1234); connecting again in 0.00 s")


async def test_the_body_is_not_cancelled() -> None:
    peer = Peer()
    async with open_connection(MUCH_LATER, connect=peer.connect) as conn:
        peer.hang_up()
        await trio.sleep(100)
        with pytest.raises(OperationTimedOut, match="there is no connection at the moment"):
            await conn.ping()


async def test_lost_in_the_moment_it_was_opened() -> None:
    peer, second = Peer(), Peer()
    peer.handlers[Command.PING] = partial(let_in_and_hang_up, peer)
    async with open_over(peer, second) as conn:
        await conn.ping()
        assert conn.statistics().reconnects == 1


def let_in_and_hang_up(peer: Peer, request: Request) -> None:
    peer.send(Command.PONG, request.correlation)
    peer.hang_up()


# --- how a session begins


async def test_each_session_says_who_it_is_and_proves_it() -> None:
    peers = [Peer() for _ in range(3)]
    async with open_over(*peers, settings=AT_ONCE.replace(username="admin", password="changeit")) as conn:
        for peer in peers[:2]:
            await lose(peer)
        await conn.ping()
    for peer in peers:
        identify, ping = peer.log[:2]
        assert (identify.command, identify.payload) == (Command.IDENTIFY_CLIENT, peers[0].log[0].payload)
        assert (ping.command, ping.credentials) == (Command.PING, ADMIN.credentials)


async def test_a_later_server_that_is_silent_to_identify() -> None:
    """An older one has taken its place."""
    peer, second = Peer(), Peer(mute=[Command.IDENTIFY_CLIENT])
    async with open_over(peer, second) as conn:
        peer.hang_up()
        await conn.ping()
        assert trio.current_time() == AT_ONCE.identify_timeout


async def test_nothing_goes_over_a_session_that_is_not_open_yet(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer(mute=[Command.PING])
    answer_all(second, READ, (READ_DONE, event_read()))
    async with open_over(peer, second) as conn:
        await lose(peer)
        read = Call(nursery, conn.read_event, "s", 0)
        ping = await second.receive(Command.PING)
        await trio.sleep(3)
        assert [request.command for request in second.log[:2]] == [Command.IDENTIFY_CLIENT, Command.PING]
        assert second.commands() == []
        second.send(Command.PONG, ping.correlation)
        await read.value()


# --- nothing is left of the last one


async def test_nothing_of_a_session_is_left_when_the_next_begins() -> None:
    """No task, no stream, no frame that came to half, no id."""
    peers = [Peer() for _ in range(3)]
    network = Network(*peers)
    tasks: list[list[str]] = []

    async def connect(host: str, port: int) -> trio.abc.Stream:
        tasks.append(client_tasks())
        used = len(network.times)
        assert all(peer.closed for peer in peers[:used])
        return await network.connect(host, port)

    async with open_connection(AT_ONCE, connect=connect) as conn:
        before = client_tasks()
        for peer in peers[:2]:
            # Half a frame: with the rest of another one it would be a whole.
            peer.send_bytes(encode(Command.PONG, bytes(16))[:-8])
            await lose(peer)
        await conn.ping()
        assert client_tasks() == before
    assert tasks[1] == tasks[2]
    assert not any("session" in name for name in tasks[1])
    prefixes = {request.correlation[:8] for peer in peers for request in peer.log}
    assert len(prefixes) == 3


async def test_a_thousand_sessions_leave_nothing(nursery: trio.Nursery) -> None:
    """Nor does anybody have to wait longer for the last of them."""
    peers = [Peer() for _ in range(1000)]
    for peer in peers:
        answer_all(peer, READ, (READ_DONE, event_read()))
    network = Network(*peers)
    async with open_connection(AT_ONCE, connect=network.connect) as conn:
        tasks = client_tasks()
        for peer in peers[:-1]:
            await conn.read_event("s", 0)
            peer.hang_up()
        await conn.read_event("s", 0)
        assert conn.statistics().reconnects == 999
        assert client_tasks() == tasks
        assert trio.current_time() == 0
        assert_nothing_left(conn)


async def test_statistics_go_on() -> None:
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        before = conn.statistics()
        assert before.reconnects == 0
        await lose(peer)
        now = conn.statistics()
        assert now.reconnects == 1
        assert (now.frames_sent, now.frames_received) == (2 * before.frames_sent, 2 * before.frames_received)
        assert (now.bytes_sent, now.bytes_received) == (2 * before.bytes_sent, 2 * before.bytes_received)

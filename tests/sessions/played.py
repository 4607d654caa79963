"""Servers that the tests play."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from trio.testing import wait_all_tasks_blocked

from tests.answers import event_read
from tests.helpers import assert_nothing_left
from tests.peer import Network, Peer, Request, encode
from trio_extreme import (
    Connection,
    Settings,
    open_connection,
)
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


PLAYED = Settings(
    host="played", username="admin", password="changeit", first_attempts=1, reconnect_delay=0, max_reconnect_delay=1
)
NOBODY = b"nobody's id here"

Reply: TypeAlias = Callable[[Peer, Request], None]


def raw(data: bytes) -> Reply:
    """Bytes, whatever was asked."""
    return lambda peer, request: peer.send_bytes(data)


def answered(command: int, payload: bytes = b"") -> Reply:
    """A frame under the request's own id."""
    return lambda peer, request: peer.send(command, request.correlation, payload)


def garbage(peer: Peer, request: Request) -> None:
    peer.send(request.command + 1, request.correlation, b"\xff")


def cut(peer: Peer, request: Request) -> None:
    peer.send_bytes(encode(request.command + 1, request.correlation, b"12345678")[:-1])
    peer.hang_up()


def stop_talking(peer: Peer, request: Request) -> None:
    peer.handlers.clear()


def read_what_was_asked(peer: Peer, request: Request) -> None:
    number = schema.ReadEvent.FromString(request.payload).event_number
    peer.send(Command.READ_EVENT_COMPLETED, request.correlation, event_read(number))


@asynccontextmanager
async def open_played(settings: Settings = PLAYED) -> AsyncIterator[tuple[Connection, Peer]]:
    """A connection, and its server for the test to play. There is no other after it."""
    peer = Peer()
    async with open_connection(settings, connect=Network(peer, OSError("no other")).connect) as conn:
        yield conn, peer
        assert conn.statistics().reconnects == 0


@asynccontextmanager
async def play_in_turn(*peers: Peer, settings: Settings = PLAYED) -> AsyncIterator[Connection]:
    """A connection to one server after another, all of which it needs."""
    async with open_connection(settings, connect=Network(*peers).connect) as conn:
        yield conn
        await wait_all_tasks_blocked()
        assert_nothing_left(conn)
        assert conn.statistics().reconnects == len(peers) - 1


def reply_to(peer: Peer, command: int, reply: Reply) -> None:
    peer.handlers[command] = lambda request: reply(peer, request)


async def check_alive(conn: Connection, peer: Peer) -> None:
    reply_to(peer, Command.READ_EVENT, read_what_was_asked)
    assert (await conn.read_event("s", 3)).number == 3

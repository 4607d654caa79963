"""Connections that are lost and made again, one peer after another."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from tests.answers import not_handled
from tests.helpers import assert_nothing_left
from tests.peer import ANONYMOUS, Network, Peer, answering
from trio_extreme import open_connection
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from tests.peer import Request
    from trio_extreme import Connection, Settings

AT_ONCE = ANONYMOUS.replace(reconnect_delay=0, max_reconnect_delay=0)
"""Connects again without a delay, so that the clock shows what else takes time."""

MUCH_LATER = AT_ONCE.replace(reconnect_delay=1e9, max_reconnect_delay=1e9)
"""Does not connect again while anybody waits for it."""

_SIGNS_OF_LIFE = {Command.HEARTBEAT_REQUEST, Command.HEARTBEAT_RESPONSE}


@asynccontextmanager
async def open_over(*outcomes: Peer | BaseException, settings: Settings = AT_ONCE) -> AsyncIterator[Connection]:
    """A connection to these peers, one after another. All must have been used, and nothing be left."""
    network = Network(*outcomes)
    async with open_connection(settings, connect=network.connect) as conn:
        yield conn
        await settle()
        assert_nothing_left(conn)
    assert len(network.times) >= len(outcomes)
    assert all(peer.closed for peer in outcomes if isinstance(peer, Peer))


async def settle() -> None:
    """Until everybody waits."""
    await trio.testing.wait_all_tasks_blocked()


def answer_all(peer: Peer, command: int, answer: tuple[int, Any]) -> None:
    """From now on each request of a command gets this answer."""
    peer.handlers[command] = answering(*answer)(peer)


def not_handled_by(peer: Peer, request: Request, reason: int) -> None:
    """The peer refuses to look at a request."""
    peer.send(Command.NOT_HANDLED, request.correlation, not_handled(reason))


async def block_writer(peer: Peer) -> None:
    """Nothing is sent from now on: the answer to a heartbeat is under way, and does not arrive."""
    peer.hold()
    peer.handlers[Command.HEARTBEAT_RESPONSE] = lambda request: None
    peer.send(Command.HEARTBEAT_REQUEST, bytes(range(16)))
    await settle()


async def lose(peer: Peer) -> None:
    """The peer hangs up, and whatever comes of that comes."""
    peer.hang_up()
    await settle()


def asked(peer: Peer) -> list[Request]:
    """All requests that came to a peer after the two of the handshake, in order."""
    return [request for request in peer.log[2:] if request.command not in _SIGNS_OF_LIFE]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged at WARNING."""
    return [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]


class Watcher:
    """What becomes of a connection, from the present state on."""

    def __init__(self, nursery: trio.Nursery, conn: Connection) -> None:
        self._changes = conn.changes()
        self.seen: list[Any] = []
        nursery.start_soon(self._watch)

    async def _watch(self) -> None:
        async for change in self._changes:
            self.seen.append(change)

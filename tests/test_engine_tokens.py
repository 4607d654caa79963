"""Bearer tokens: what they mean to a server that knows none, which takes their length for a login's."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from tests.lost import lose
from tests.peer import ANONYMOUS, Network, Peer, answering
from trio_extreme import (
    ConnectFailed,
    ConnectionLost,
    Credentials,
    NotAuthenticated,
    Settings,
    Unsupported,
    open_connection,
)
from trio_extreme.embedded import open_node
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("autojump_clock")

SHORT = ANONYMOUS.replace(token="t" * 100, first_attempts=2)


async def open_and_leave(settings: Settings, connect: Callable[..., object]) -> None:
    async with open_connection(settings, connect=connect):  # type: ignore[arg-type]
        pytest.fail("it was opened")


def old_peer() -> Peer:
    """It says what it has to say to the connection as a whole, and closes."""
    peer = Peer()
    peer.handlers[Command.PING] = lambda _: hang_up(peer, b"Login length is too big, it doesn't fit into TcpPackage.")
    return peer


def hang_up(peer: Peer, text: bytes = b"") -> None:
    if text:
        peer.send(Command.BAD_REQUEST, NO_CORRELATION, text)
    peer.hang_up()


async def test_a_token_goes_into_each_frame_but_the_first() -> None:
    peer = Peer()
    async with open_connection(SHORT, connect=peer.connect) as conn:
        await conn.ping()
    assert [request.credentials for request in peer.log] == [None, *[Credentials(token=SHORT.token)] * 2]


async def test_a_server_that_hangs_up_over_it_is_too_old() -> None:
    """No further attempt could mend that."""
    network = Network(old_peer())
    with pytest.raises(Unsupported, match=r"bearer tokens: servers have it since 20\.6\.0") as caught:
        await open_and_leave(SHORT, network.connect)
    # `Nursery.start` of Trio before 0.34 drops the cause of what it raises.
    if tuple(map(int, version("trio").split(".")[:2])) >= (0, 34):
        assert isinstance(caught.value.__cause__, ConnectionLost)
    assert len(network.times) == 1


async def test_a_server_that_hangs_up_without_a_word_may_be_too_old() -> None:
    peers = [Peer(), Peer()]
    for peer in peers:
        peer.handlers[Command.PING] = lambda _, peer=peer: hang_up(peer)  # type: ignore[misc]
    with pytest.raises(
        ConnectFailed, match=r"or it knows no bearer tokens: servers have them since 20\.6\.0"
    ) as caught:
        await open_and_leave(SHORT, Network(*peers).connect)
    assert [type(attempt) for attempt in caught.value.attempts] == [ConnectionLost, ConnectionLost]


async def test_a_server_that_refuses_it_may_be_too_old() -> None:
    peer = Peer()
    peer.handlers[Command.PING] = answering(Command.NOT_AUTHENTICATED, b"no")(peer)
    with pytest.raises(NotAuthenticated, match=r"or it knows no bearer tokens"):
        await open_and_leave(SHORT, peer.connect)


async def test_with_a_password_nobody_talks_of_tokens() -> None:
    peer = Peer()
    peer.handlers[Command.PING] = answering(Command.NOT_AUTHENTICATED, b"no")(peer)
    settings = ANONYMOUS.replace(username="admin", password="wrong")
    with pytest.raises(NotAuthenticated) as caught:
        await open_and_leave(settings, peer.connect)
    assert "token" not in str(caught.value)
    with pytest.raises(ConnectFailed) as failed:
        await open_and_leave(settings.replace(first_attempts=1), old_peer().connect)
    assert "token" not in str(failed.value)


async def test_later_it_is_a_failed_attempt(caplog: pytest.LogCaptureFixture) -> None:
    """The node may have been replaced by an older one, and will be again."""
    peer, last = Peer(), Peer()
    async with open_connection(SHORT, connect=Network(peer, old_peer(), last).connect) as conn:
        await lose(peer)
        await conn.ping()
    assert "this server does not know bearer tokens" in caplog.text


async def test_an_embedded_server_of_that_age() -> None:
    async with open_node(port=None, version="4.1.1") as node:
        with pytest.raises(Unsupported, match="bearer tokens"):
            await open_and_leave(SHORT, node.connect)

"""Opening connections, and not being able to."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.helpers import new_events
from tests.peer import ANONYMOUS, Network, Peer
from trio_extreme import (
    ConnectFailed,
    InvalidArgument,
    NotAuthenticated,
    Settings,
    open_connection,
)
from trio_extreme.embedded import open_node
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_extreme import Connection
    from trio_extreme.embedded import Node


async def test_an_open_connection_answers_a_ping(conn: Connection) -> None:
    assert await conn.ping() >= 0


async def test_over_a_real_port() -> None:
    async with open_node() as node, open_connection(node.settings) as conn:
        await conn.append("people", new_events(2))
        assert [event.number async for event in conn.read_stream("people")] == [0, 1]


async def test_a_wrong_password_is_refused_when_opening(node: Node) -> None:
    with pytest.raises(NotAuthenticated):
        async with open_connection(node.settings.replace(password="wrong"), connect=node.connect):
            pytest.fail("it was let in")


async def test_an_idle_connection_stays_open(conn: Connection) -> None:
    before = conn.statistics().frames_received
    await trio.sleep(60)
    assert conn.statistics().frames_received > before + 10
    await conn.ping()


async def test_each_test_has_an_empty_node(conn: Connection) -> None:
    assert await conn.last_number("people") is None


# --- not being able to


async def test_a_closed_port() -> None:
    async with open_node() as node:
        settings = node.settings.replace(first_attempts=1)
    with pytest.raises(ConnectFailed) as info:
        async with open_connection(settings):
            pytest.fail("nothing listens there")
    assert len(info.value.attempts) == 1
    assert str(settings.port) in str(info.value)


async def test_a_port_that_accepts_and_resets(autojump_clock: MockClock) -> None:
    peers = [Peer() for _ in range(5)]
    for peer in peers:
        peer.hang_up()
    network = Network(*peers)
    with pytest.raises(ConnectFailed) as info:
        async with open_connection(ANONYMOUS.replace(first_attempts=5), connect=network.connect):
            pytest.fail("nobody said a word")
    assert len(info.value.attempts) == 5
    assert len(set(network.times)) == 5, "there is a delay between attempts"


async def test_a_node_that_comes_up_later(autojump_clock: MockClock) -> None:
    network = Network(*[ConnectionRefusedError()] * 20, Peer())
    async with open_connection(ANONYMOUS.replace(first_attempts=None), connect=network.connect) as conn:
        await conn.ping()
    assert len(network.times) == 21


async def test_cancelled_while_opening(autojump_clock: MockClock) -> None:
    peer = Peer(mute=[Command.IDENTIFY_CLIENT])
    with trio.move_on_after(0.5) as scope:
        async with open_connection(ANONYMOUS, connect=peer.connect):
            pytest.fail("nobody answered")
    assert scope.cancelled_caught
    assert trio.current_time() < 1
    assert peer.closed


# --- settings


def test_settings_given_as_text() -> None:
    settings = Settings.from_url("eventstore://admin:changeit@db.example:1234?page_size=100&connect_timeout=2.5")
    assert (settings.port, settings.page_size, settings.connect_timeout) == (1234, 100, 2.5)
    with pytest.raises(InvalidArgument, match="port"):
        Settings.from_url("eventstore://db.example:many")
    with pytest.raises(InvalidArgument, match="page_size"):
        Settings.from_url("eventstore://db.example?page_size=many")


def test_a_user_name_that_fits_no_frame() -> None:
    make = partial(Settings, password="changeit")
    assert make(username="n" * 255).username
    with pytest.raises(InvalidArgument, match="username"):
        make(username="n" * 300)

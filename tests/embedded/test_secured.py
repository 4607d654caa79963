"""A node behind TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.embedded.securing import make_secret, over_tls
from tests.embedded.talk import ADMIN, Talk, append, new_event, pack, read_stream
from tests.embedded.visiting import document, get
from trio_extreme.embedded import open_node
from trio_extreme.errors import ConnectionLost
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.embedded import Node

SECRET = make_secret("node.example", "127.0.0.1")


async def talk_securely(node: Node) -> Talk:
    return Talk(await over_tls(node.connect, SECRET.client)(node.host, node.port))


async def test_packages_go_through_tls_and_gossip_says_where(autojump_clock: None) -> None:
    async with open_node(port=None, tls=SECRET.server, version="20.10") as node:
        talk = await talk_securely(node)
        # More than one record of TLS, and more than a stream in memory holds.
        await talk.ask(Command.WRITE_EVENTS, append("people", [new_event(data=bytes(600_000))]))
        page = await talk.ask(Command.READ_STREAM_EVENTS_FORWARD, read_stream("people"))
        assert page is not None
        assert len(page.message.events[0].event.data) == 600_000
        (member,) = document(await get(node, "/gossip"))["members"]
        assert (member["externalTcpPort"], member["externalSecureTcpPort"]) == (0, 1113)
        (connection,) = document(await get(node, "/stats/tcp"))
        assert connection["isSslConnection"] is True
        assert node.traffic()[0].received > 600_000


async def test_pages_go_through_tls_where_that_is_asked_for(autojump_clock: None) -> None:
    async with open_node(port=None, http_tls=SECRET.server, gossip_on_single_node=True) as node:
        told = document(await get(node, "/gossip", over_tls(node.connect, SECRET.client)))
        (member,) = told["members"]
        assert (member["externalTcpPort"], member["externalSecureTcpPort"]) == (1113, 0)
        with pytest.raises(ConnectionLost):
            await get(node, "/ping")


async def test_sockets_of_both_kinds() -> None:
    secure = over_tls(trio.open_tcp_stream, SECRET.client, "127.0.0.1")
    async with open_node(tls=SECRET.server, http_tls=SECRET.server) as node:
        talk = Talk(await secure(node.host, node.port))
        pong = await talk.ask(Command.PING, b"echo")
        assert pong is not None
        assert pong.message == b"echo"
        (connection,) = document(await get(node, "/stats/tcp", secure))
        assert connection["localEndPoint"] == f"127.0.0.1:{node.port}"
        await trio.aclose_forcefully(talk.stream)


async def test_who_does_not_speak_tls_is_cut_off(autojump_clock: None) -> None:
    async with open_node(port=None, tls=SECRET.server) as node:
        plain, mute = [await node.connect(node.host, node.port) for _ in range(2)]
        await plain.send_all(pack(Command.PING))
        assert await plain.receive_some() == b""
        assert trio.current_time() < 1
        # As anybody who gives no sign of life.
        assert await mute.receive_some() == b""
        assert trio.current_time() == pytest.approx(3)
        await wait_all_tasks_blocked()
        assert node.traffic() == []


async def test_a_client_that_does_not_believe_the_node_costs_nobody_else_anything(autojump_clock: None) -> None:
    async with open_node(port=None, tls=SECRET.server) as node:
        talk = await talk_securely(node)
        with pytest.raises(trio.BrokenResourceError):
            await over_tls(node.connect, make_secret().client)(node.host, node.port)
        await wait_all_tasks_blocked()
        assert len(node.traffic()) == 1
        assert await talk.ask(Command.PING, b"echo") is not None


async def test_a_process_that_is_stopped_shakes_no_hands(autojump_clock: None) -> None:
    async with open_node(port=None, tls=SECRET.server, http_tls=SECRET.server) as node:
        with node.faults.pause():
            for port in (node.port, node.http_port):
                assert port is not None
                with trio.move_on_after(5) as scope:
                    await over_tls(node.connect, SECRET.client)(node.host, port)
                assert scope.cancelled_caught
        assert (await (await talk_securely(node)).ask(Command.PING, b"", ADMIN)) is not None


async def test_faults_reach_connections_within_tls(autojump_clock: None) -> None:
    async with open_node(port=None, tls=SECRET.server) as node:
        talks = [await talk_securely(node) for _ in range(2)]
        for talk in talks:
            await talk.ask(Command.PING)
        node.faults.kill_connections()
        for talk in talks:
            assert await talk.hear() is None
        unshaken = await node.connect(node.host, node.port)
        node.faults.kill_connections()
        assert await unshaken.receive_some() == b""

"""A node's web interface, through its network."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.embedded.talk import ADMIN, Talk, append, new_events, talk_to
from tests.embedded.visiting import ADMIN as LOGIN, basic, document, get
from trio_extreme.embedded import VERSIONS, Node, StorageError, open_node, run_inline
from trio_extreme.embedded.pages import Pages
from trio_extreme.errors import ConnectionLost
from trio_extreme.http import Request, exchange
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from pathlib import Path

    from trio_extreme.http import Response

DAMAGED = StorageError("damaged", "node.db")
AS_ADMIN = (basic(*LOGIN),)


async def is_up(node: Node) -> bool:
    return (await get(node, "/ping")).status == 200


async def test_a_node_in_memory_has_a_web_interface_beside(node: Node) -> None:
    assert (node.port, node.http_port) == (1113, 2113)
    assert document(await get(node, "/ping"))["text"] == "Ping request successfully handled"
    assert (await get(node, "/nothing")).status == 404


async def test_a_node_listens_on_two_ports() -> None:
    async with open_node() as node:
        assert node.http_port not in (None, node.port)
        assert document(await get(node, "/info", trio.open_tcp_stream))["state"] == "master"
        port = node.http_port
    async with open_node(http_port=port) as node:
        assert node.http_port == port


async def test_an_http_port_that_is_taken_is_named() -> None:
    async with open_node() as node:
        with pytest.raises(OSError, match=f"in use.*127.0.0.1:{node.http_port}"):
            async with open_node(http_port=node.http_port):
                pass


@pytest.mark.parametrize("port", [0, None])
async def test_a_node_without_a_web_interface(port: int | None) -> None:
    async with open_node(port=port, http_port=None) as node:
        assert node.http_port is None
        assert node.endpoints.http == 0


@pytest.mark.parametrize("version", VERSIONS)
async def test_who_gossips_alone(version: str, autojump_clock: None) -> None:
    async with open_node(port=None, version=version) as node:
        status = (await get(node, "/gossip?format=json")).status
    assert (status == 200) is VERSIONS[version].gossips_alone


async def test_a_node_of_old_gossips_where_it_is_told_to(autojump_clock: None) -> None:
    async with open_node(port=None, gossip_on_single_node=True) as node:
        (member,) = document(await get(node, "/gossip?format=json"))["members"]
        again = document(await get(node, "/gossip?format=json"))["members"][0]
    assert (member["state"], member["externalTcpPort"], member["externalHttpPort"]) == ("Master", 1113, 2113)
    assert again["instanceId"] == member["instanceId"]


async def test_ids_come_from_the_given_chance(autojump_clock: None) -> None:
    told = []
    for _ in range(2):
        async with open_node(port=None, version="20.10", now=lambda: 0.0, random=Random(7)) as node:
            told.append((await get(node, "/gossip")).body)
    assert told[0] == told[1]


async def test_statistics_know_each_connection(node: Node) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.PING, b"echo")
    (one,) = document(await get(node, "/stats/tcp", headers=AS_ADMIN))
    assert one["totalBytesReceived"] > 0
    assert one["remoteEndPoint"] == "memory"
    await talk.stream.aclose()
    await wait_all_tasks_blocked()
    assert document(await get(node, "/stats/tcp", headers=AS_ADMIN)) == []
    tcp = document(await get(node, "/stats", headers=AS_ADMIN))["proc"]["tcp"]
    assert (tcp["connections"], tcp["receivedBytesTotal"]) == (0, one["totalBytesReceived"])
    assert tcp["sentBytesTotal"] == one["totalBytesSent"]


async def test_statistics_know_the_ends_of_a_socket() -> None:
    async with open_node() as node, await trio.open_tcp_stream(node.host, node.port) as stream:
        await Talk(stream).ask(Command.PING)
        told = document(await get(node, "/stats/tcp"))
        host, port = stream.socket.getsockname()
        assert told[0]["remoteEndPoint"] == f"{host}:{port}"
        assert told[0]["localEndPoint"] == f"{node.host}:{node.port}"


# --- faults


async def test_a_node_that_is_stopped_answers_when_it_goes_on(node: Node) -> None:
    node.faults.pause(5)
    start = trio.current_time()
    assert await is_up(node)
    assert trio.current_time() - start == pytest.approx(5)


async def test_a_delay_holds_for_pages_too(node: Node) -> None:
    node.faults.delay(0.5)
    start = trio.current_time()
    assert await is_up(node)
    assert trio.current_time() - start == pytest.approx(0.5)


async def test_a_node_that_refuses_connections_has_no_pages(node: Node) -> None:
    with node.faults.refuse(), pytest.raises(ConnectionRefusedError):
        await get(node, "/ping")
    assert await is_up(node)


async def test_a_socket_is_reset_by_a_node_that_refuses() -> None:
    async with open_node() as node:
        node.faults.refuse()
        with pytest.raises((ConnectionLost, OSError)):
            await get(node, "/ping", trio.open_tcp_stream)


@pytest.mark.parametrize("fault", ["kill_connections", "restart"])
async def test_who_waits_for_a_page_is_cut_off(node: Node, fault: str) -> None:
    node.faults.pause()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_loss, node)
        await wait_all_tasks_blocked()
        getattr(node.faults, fault)()
    node.faults.resume()
    assert await is_up(node)


async def expect_loss(node: Node) -> None:
    with pytest.raises(ConnectionLost):
        await get(node, "/ping")


async def test_a_node_that_stops_waits_for_no_visitor(autojump_clock: None) -> None:
    start = trio.current_time()
    async with open_node(port=None) as node:
        assert node.http_port is not None
        stream = await node.connect(node.host, node.http_port)
        await wait_all_tasks_blocked()
    assert trio.current_time() == start
    assert await stream.receive_some() == b""


async def test_nothing_is_told_before_it_is_on_the_disk(
    tmp_path: Path, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []

    async def slowly(function: object, *args: object) -> object:
        await trio.sleep(1)
        written.append(trio.current_time())
        return await run_inline(function, *args)  # type: ignore[arg-type]

    async with open_node(port=None, path=tmp_path / "node.db", run_sync=slowly) as node:
        talk = await talk_to(node)
        await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)), ADMIN)
        await wait_all_tasks_blocked()
        told = document(await get(node, "/stats"))
        assert told["es"]["checksum"] == node.store.log.end
        assert trio.current_time() == written[-1]


async def test_a_page_that_finds_the_file_damaged_ends_the_node(
    tmp_path: Path, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Pages, __: object) -> Response:
        raise DAMAGED

    monkeypatch.setattr(Pages, "ping", fail)
    statuses = []
    with pytest.raises(StorageError, match="damaged"):  # noqa: PT012 - the error belongs to the block
        async with open_node(port=None, path=tmp_path / "node.db", run_sync=run_inline) as node:
            statuses.append((await get(node, "/ping")).status)
            await trio.sleep_forever()
    # The node ends at once: whether its last words still leave is chance.
    assert statuses in ([500], [])


async def test_many_pages_on_one_connection() -> None:
    async with open_node() as node:
        assert node.http_port is not None
        stream = await trio.open_tcp_stream(node.host, node.http_port)
        for _ in range(3):
            await stream.send_all(b"GET /ping?format=text HTTP/1.1\r\nHost: node\r\n\r\n")
            heard = b""
            while b"handled" not in heard:
                heard += await stream.receive_some()
        await stream.aclose()


async def test_what_is_no_request_is_refused(node: Node) -> None:
    assert node.http_port is not None
    stream = await node.connect(node.host, node.http_port)
    await stream.send_all(b"\x12\0\0\0\1\0" + bytes(16))
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 400")
    await stream.aclose()
    stream = await node.connect(node.host, node.http_port)
    response = await exchange(stream, "node", Request("POST", "/nowhere", (), json.dumps({}).encode()))
    assert response.status == 404
    await stream.aclose()

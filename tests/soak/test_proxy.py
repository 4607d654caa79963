"""The proxy itself, over real sockets: what it passes on is unchanged, and each fault is what it is called."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.soak.proxy import Proxy, listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE = 10
"""Seconds that anything here may take on a busy machine."""


async def echo(stream: trio.SocketStream) -> None:
    async with stream:
        try:
            async for chunk in stream:
                await stream.send_all(chunk)
        except trio.BrokenResourceError:
            pass


@asynccontextmanager
async def echo_behind_proxy(seed: int = 0) -> AsyncIterator[Proxy]:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            listener = await listen(Random(seed))
            await nursery.start(trio.serve_listeners, echo, [listener])
            proxy = Proxy(listener.socket.getsockname()[1], Random(seed))
            await nursery.start(proxy.run)
            yield proxy
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[trio.SocketStream]:
    """A client, once the node has answered it."""
    async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        await stream.send_all(b"!")
        assert await stream.receive_some() == b"!"
        yield stream


async def receive_all(stream: trio.SocketStream, size: int) -> bytes:
    received = b""
    while len(received) < size and (chunk := await stream.receive_some()):
        received += chunk
    return received


@pytest.mark.parametrize("seed", range(4))
async def test_what_it_passes_on_is_unchanged_in_both_directions(seed: int) -> None:
    data = Random(seed).randbytes(1_000_000)
    async with echo_behind_proxy(seed) as proxy, connected(proxy) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, data)
        assert await receive_all(stream, len(data)) == data


async def test_what_comes_at_once_arrives_in_pieces() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as stream:
        sizes = set()
        for _ in range(50):
            await stream.send_all(bytes(100))
            sizes.add(len(await stream.receive_some()))
            await trio.sleep(0.005)
            with trio.move_on_after(0.001):
                await receive_all(stream, 100)
    assert 100 in sizes
    assert len(sizes) > 1


async def test_a_cut_is_the_end_of_the_stream() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as stream:
        proxy.cut(reset=False)
        assert await stream.receive_some() == b""


async def test_a_reset_is_an_error() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as stream:
        proxy.cut(reset=True)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_a_share_of_the_links_is_cut_and_one_at_least() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy), connected(proxy):
        proxy.cut(reset=False, share=0.1)
        await trio.testing.wait_all_tasks_blocked()
        assert proxy.links == 1


async def test_with_no_links_there_is_nothing_to_hit() -> None:
    async with echo_behind_proxy() as proxy:
        proxy.cut(reset=True)
        proxy.swallow("up", "down")
        assert proxy.links == 0


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_it_cuts_after_so_many_bytes(direction: str) -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as stream:
        proxy.cut_after(777, direction, reset=False)
        await stream.send_all(bytes(1000))
        received = await receive_all(stream, 1000)
    # Down it is exact; of what went up, the answers under way are lost with the link.
    assert len(received) == 777 if direction == "down" else len(received) <= 777


async def test_a_stalled_direction_keeps_what_comes_and_the_other_goes_on() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as stream:
        proxy.stall(0.2, "down")
        began = trio.current_time()
        await stream.send_all(b"later")
        assert await receive_all(stream, 5) == b"later"
        assert trio.current_time() - began > 0.19


async def test_a_half_open_link_is_silent_and_takes_what_is_sent() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as stream:
        proxy.swallow("up", "down")
        for _ in range(5):
            await stream.send_all(b"anybody?")
        with trio.move_on_after(0.1) as waiting:
            await stream.receive_some()
        assert waiting.cancelled_caught
        assert proxy.links == 1


async def test_a_half_open_link_does_not_tell_the_client_of_the_nodes_end() -> None:
    async with trio.open_nursery() as nursery:
        node = await listen(Random(0))
        proxy = Proxy(node.socket.getsockname()[1], Random(0))
        await nursery.start(proxy.run)
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            behind = await node.accept()
            await trio.testing.wait_all_tasks_blocked()
            proxy.swallow("down")
            await behind.aclose()
            with trio.move_on_after(0.1) as waiting:
                await stream.receive_some()
            assert waiting.cancelled_caught
        await node.aclose()
        nursery.cancel_scope.cancel()


async def test_a_link_is_gone_with_its_client() -> None:
    async with echo_behind_proxy() as proxy:
        async with connected(proxy):
            assert proxy.links == 1
        while proxy.links:  # noqa: ASYNC110 - ended by the patience of the block
            await trio.sleep(0.01)


async def test_it_refuses_and_accepts_again_on_the_same_port() -> None:
    async with echo_behind_proxy() as proxy, connected(proxy) as old:
        proxy.refuse()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", proxy.port)
        await old.send_all(b"still here")
        assert await receive_all(old, 10) == b"still here"
        proxy.accept()
        proxy.refuse()
        proxy.accept()
        await trio.testing.wait_all_tasks_blocked()
        async with connected(proxy):
            assert proxy.links == 2


async def test_where_the_node_is_not_there_the_client_is_reset() -> None:
    async with trio.open_nursery() as nursery:
        node = await listen(Random(0))
        port = node.socket.getsockname()[1]
        await node.aclose()
        # Another seed, or the proxy would listen where the node did.
        proxy = Proxy(port, Random(1))
        await nursery.start(proxy.run)
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        nursery.cancel_scope.cancel()

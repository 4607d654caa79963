"""TCP streams, over a real port: on the real clock, because waiting for a socket looks idle to a mock one."""

from __future__ import annotations

import socket
from functools import partial

import pytest
import trio

from trio_extreme.errors import InvalidArgument
from trio_extreme.transport import READ_SIZE, connect_tcp


async def echo(stream: trio.SocketStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.send_all(chunk)


async def test_bytes_go_both_ways(nursery: trio.Nursery) -> None:
    serve = partial(trio.serve_tcp, echo, 0, host="127.0.0.1")
    listeners = await nursery.start(serve)
    stream = await connect_tcp("127.0.0.1", listeners[0].socket.getsockname()[1])
    async with stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some(READ_SIZE) == b"hello"


async def test_nobody_listens() -> None:
    with trio.socket.socket() as bound:
        await bound.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match=str(bound.getsockname()[1])):
            await connect_tcp("127.0.0.1", bound.getsockname()[1])


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "\u2100"])
async def test_what_nobody_could_ever_look_up(host: str) -> None:
    """The look-up refuses it with a ValueError, before anything is asked."""
    with trio.fail_after(10), pytest.raises(InvalidArgument, match=r"^host: .* cannot be the name of a node: "):
        await connect_tcp(host, 1113)


async def test_a_name_that_cannot_be_looked_up() -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *_: object) -> list[object]:  # type: ignore[override]
            await trio.lowlevel.checkpoint()
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, *_: object) -> tuple[str, str]:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    with pytest.raises(socket.gaierror):
        await connect_tcp("nowhere.example", 1113)

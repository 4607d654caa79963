"""A port that is not the one: the error says what it probably is. Real servers and sockets, so the real clock."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from trio_extreme import ConnectFailed, NotAuthenticated, Settings, open_connection
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[trio.abc.Stream], Awaitable[None]]

HASTE = {"first_attempts": 1, "identify_timeout": 0.2, "attempt_timeout": 0.5}


async def failure(port: int, host: str = "127.0.0.1") -> str:
    settings = Settings(host=host, port=port, username="admin", password="changeit", **HASTE)
    with pytest.raises(ConnectFailed) as caught:
        async with open_connection(settings):
            pass
    assert len(caught.value.attempts) == 1
    return str(caught.value)


@pytest.fixture
async def serve(nursery: trio.Nursery) -> AsyncIterator[Callable[[Handler], Awaitable[int]]]:
    """Serve each connection on a free port with a coroutine."""

    async def start(handler: Handler) -> int:
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        port: int = listeners[0].socket.getsockname()[1]
        return port

    yield start
    nursery.cancel_scope.cancel()


async def test_a_web_server(serve: Callable[..., Awaitable[int]]) -> None:
    async def answer(stream: trio.abc.Stream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    assert "it answers in HTTP: this is the port of the web interface" in await failure(await serve(answer))


async def test_a_web_server_that_waits_for_the_end_of_the_line(serve: Callable[..., Awaitable[int]]) -> None:
    async def wait(stream: trio.abc.Stream) -> None:
        async with stream:
            while await stream.receive_some():
                pass

    found = await failure(await serve(wait))
    assert "answers nothing" in found
    assert "2113" in found


async def test_a_tls_port(serve: Callable[..., Awaitable[int]]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def handshake(stream: trio.abc.Stream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True)
        try:
            await secure.do_handshake()
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(secure)

    assert "TLS" in await failure(await serve(handshake))


async def test_a_port_where_nobody_listens() -> None:
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        found = await failure(taken.getsockname()[1])
    assert "nothing accepts connections there" in found
    assert "is the server up, and its TCP port on?" in found


async def test_a_host_that_is_none() -> None:
    assert "the name 'no.such.host.invalid' cannot be looked up" in await failure(1113, "no.such.host.invalid")


async def test_a_wrong_password() -> None:
    async with open_node() as node:
        with pytest.raises(NotAuthenticated, match="check user name and password") as caught:
            async with open_connection(node.settings.replace(password="secret-but-wrong")):
                pass
    assert "secret-but-wrong" not in repr(caught.value)

"""The sockets that a node listens on."""

from __future__ import annotations

import struct
import sys
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from ssl import SSLContext

_RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""What to set SO_LINGER to, so that closing a socket resets its connection."""


async def listen(
    host: str,
    port: int,
    serve: Callable[[trio.SocketStream], Awaitable[object]],
    nursery: trio.Nursery,
    *,
    task_status: trio.TaskStatus[int],
) -> None:
    """Have each connection to this port served by a task of the nursery, until cancelled. Reports the port.

    Raises `OSError`, with the address in it, where it cannot listen.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        error.filename = f"{host}:{port}"
        raise
    found: int = listeners[0].socket.getsockname()[1]
    task_status.started(found)
    await trio.serve_listeners(serve, listeners, handler_nursery=nursery)


def secured(stream: trio.abc.Stream, context: SSLContext) -> trio.abc.Stream:
    """The server's end of TLS over a stream. Hands are shaken when something is to be received or sent first.

    Who closes need not say so within TLS: few clients do, and what is said above has an end of its own.
    """
    return trio.SSLStream(stream, context, server_side=True, https_compatible=True)


async def reset(stream: trio.SocketStream) -> None:
    """Close a connection so that its client sees that nobody wants it."""
    stream.setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
    await trio.aclose_forcefully(stream)

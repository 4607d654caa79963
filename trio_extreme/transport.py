"""Streams to a node: the seam where tests and simulations put their own network.

Everything that opens a connection takes a `Connect`. It returns a stream that is ready for the protocol's first
byte, or raises `OSError`; the caller bounds its time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from trio_extreme.errors import InvalidArgument

Connect: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens a stream to a host and port."""

READ_SIZE = 262_144
"""Bytes asked for at a time. Trio allocates this for each call: 1 MiB was measured slower, 4 KiB ten times slower."""


async def connect_tcp(host: str, port: int) -> trio.abc.Stream:
    """A TCP stream, the addresses of the name tried as RFC 8305 says. Cancelling closes it.

    Raises `OSError`, and `InvalidArgument` for a host that nobody could ever look up (`a..b`, an endless label).
    """
    try:
        return await trio.open_tcp_stream(host, port)
    except ValueError as error:
        msg = f"host: {host!r} cannot be the name of a node: {error}"
        raise InvalidArgument(msg) from error

"""Streams in memory that behave like a TCP connection: bounded, so that a peer that does not read blocks its writer.

Trio's own in-memory streams, in `trio.testing`, take any number of bytes: nothing that depends on a full socket could
be tried with them.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPACITY = 256 * 1024
"""Bytes that one direction holds, roughly what the buffers of a socket do."""


class _Pipe:
    """One direction. Both ends wait in one lot, for they never both have to."""

    __slots__ = ("chunks", "ended", "lot", "room", "unread")

    def __init__(self, capacity: int) -> None:
        self.chunks: deque[bytes] = deque()
        self.room = capacity
        self.lot = trio.lowlevel.ParkingLot()
        #: Nothing more will be sent.
        self.ended = False
        #: Nothing more will be received.
        self.unread = False

    def put(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self.room -= len(chunk)
        self.lot.unpark_all()

    def get(self, max_bytes: int) -> bytes:
        parts: list[bytes] = []
        while self.chunks and max_bytes:
            chunk = self.chunks.popleft()
            if len(chunk) > max_bytes:
                self.chunks.appendleft(chunk[max_bytes:])
                chunk = chunk[:max_bytes]
            max_bytes -= len(chunk)
            self.room += len(chunk)
            parts.append(chunk)
        self.lot.unpark_all()
        return b"".join(parts)


class MemoryStream(trio.abc.Stream):
    """One end of a connection in memory; `memory_connection` makes both. See `trio.abc.Stream`."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._sending = False
        self._receiving = False

    def __repr__(self) -> str:
        return f"<MemoryStream{' closed' if self._closed else ''}>"

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. A cancelled call has sent some of it, as with a socket."""
        with self._alone_sending():
            await trio.lowlevel.checkpoint()
            self._check_outgoing()
            view = memoryview(data)
            while view:
                await self._wait_for_room()
                part = view[: self._outgoing.room]
                self._outgoing.put(bytes(part))
                view = view[len(part) :]

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for a byte."""
        with self._alone_sending():
            await trio.lowlevel.checkpoint()
            await self._wait_for_room()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes, or none at the end of the stream."""
        most = CAPACITY if max_bytes is None else index(max_bytes)
        if most < 1:
            msg = f"max_bytes: {max_bytes} must be 1 or more"
            raise ValueError(msg)
        with self._alone_receiving():
            await trio.lowlevel.checkpoint()
            pipe = self._incoming
            while True:
                self._check_open()
                if pipe.chunks:
                    return pipe.get(most)
                if pipe.ended:
                    return b""
                await pipe.lot.park()

    async def aclose(self) -> None:
        """Close both directions: what the peer has not read yet it can still read, what it sends goes nowhere."""
        if not self._closed:
            self._closed = True
            self._outgoing.ended = True
            self._incoming.unread = True
            self._incoming.chunks.clear()
            for pipe in (self._incoming, self._outgoing):
                pipe.lot.unpark_all()
        await trio.lowlevel.checkpoint()

    async def _wait_for_room(self) -> None:  # noqa: ASYNC910 - only where there is no room
        self._check_outgoing()
        while self._outgoing.room <= 0:
            await self._outgoing.lot.park()
            self._check_outgoing()

    def _check_outgoing(self) -> None:
        self._check_open()
        if self._outgoing.unread:
            msg = "the other end is closed"
            raise trio.BrokenResourceError(msg)

    def _check_open(self) -> None:
        if self._closed:
            msg = "this end was closed"
            raise trio.ClosedResourceError(msg)

    @contextmanager
    def _alone_sending(self) -> Iterator[None]:
        if self._sending:
            msg = "another task is sending on this stream"
            raise trio.BusyResourceError(msg)
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    @contextmanager
    def _alone_receiving(self) -> Iterator[None]:
        if self._receiving:
            msg = "another task is receiving from this stream"
            raise trio.BusyResourceError(msg)
        self._receiving = True
        try:
            yield
        finally:
            self._receiving = False


def memory_connection(capacity: int = CAPACITY) -> tuple[MemoryStream, MemoryStream]:
    """Both ends of a new connection; each direction holds `capacity` bytes."""
    there, back = _Pipe(capacity), _Pipe(capacity)
    return MemoryStream(back, there), MemoryStream(there, back)

"""The server's end of one connection, in memory, which says just what a test has it say."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import trio
import trio.testing

from trio_extreme import Connection, Settings, open_connection
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import Frame, FrameBuffer, encode_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from google.protobuf.message import Message

    StreamPair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]

ANONYMOUS = Settings()
"""Without credentials a connection is open once it has identified itself."""


class Peer:
    """Give `connect` to `open_connection`, then say here what the server sees and sends."""

    def __init__(self, make_pair: StreamPair = trio.testing.memory_stream_pair) -> None:
        self._ours, self.stream = make_pair()
        self._buffer = FrameBuffer()
        self._frames: deque[Frame] = deque()

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return self._ours

    async def receive(self) -> Frame:
        """The next frame that is not about being alive; questions about that are answered."""
        while True:
            frame = await self.receive_any()
            if frame[0] == Command.HEARTBEAT_REQUEST:
                await self.send(Command.HEARTBEAT_RESPONSE, frame[2])
            else:
                return frame

    async def receive_any(self) -> Frame:
        while not self._frames:
            chunk = await self.stream.receive_some()
            assert chunk, "the client closed the connection"
            self._frames.extend(self._buffer.feed(chunk))
        return self._frames.popleft()

    async def send(self, command: int, correlation: bytes, message: Message | bytes = b"") -> None:
        await self.stream.send_all(encode(command, correlation, message))

    def break_sending(self) -> None:
        """From now on everything the client sends fails, while it could still receive."""
        self._ours.send_stream.send_all_hook = self._refuse

    async def _refuse(self) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    async def welcome(self) -> None:
        """Let a client in that gave no credentials."""
        command, _, correlation, _ = await self.receive()
        assert command == Command.IDENTIFY_CLIENT
        await self.send(Command.CLIENT_IDENTIFIED, correlation)


def encode(command: int, correlation: bytes, message: Message | bytes = b"") -> bytes:
    """One frame; a message is sent as it is, without what a real server would fill in."""
    payload = message if isinstance(message, bytes) else message.SerializePartialToString()
    return encode_frame(command, correlation, payload)


@asynccontextmanager
async def open_to(peer: Peer, settings: Settings = ANONYMOUS) -> AsyncIterator[Connection]:
    """A connection to this peer."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.welcome)
        async with open_connection(settings, connect=peer.connect) as conn:
            yield conn

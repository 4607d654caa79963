"""Networks that misbehave: streams which wrap a good one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import trio

from trio_extreme.wire.framing import FrameBuffer

if TYPE_CHECKING:
    from random import Random

HEAD = 22
LAST_BYTE = -1


class Wrapped(trio.abc.Stream):
    """A stream that is another one, until a subclass says otherwise."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Recorder(Wrapped):
    """Keeps what passes."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        super().__init__(inner)
        self.sent = b""
        self.received = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)
        self.sent += data

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        chunk = await self.inner.receive_some(max_bytes)
        self.received += chunk
        return chunk


class ByteByByte(Wrapped):
    """Bytes come and go one at a time, and both sides get to look at each."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for byte in bytes(data):
            await self.inner.send_all(bytes([byte]))
            # Once for the peer's reader, once for what it wakes.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(1)


Then = Literal["close", "reset", "silence"]


class CutPoint:
    """A place in a stream of frames: after so many bytes of one frame (`LAST_BYTE`: before its last), or of all."""

    def __init__(self, offset: int, frame: int | None = None) -> None:
        self._offset = offset
        self._frame = frame
        self._passed = b""
        self.reached = False

    def __repr__(self) -> str:
        return f"CutPoint({self._offset}, frame={self._frame})"

    def part_before(self, chunk: bytes) -> bytes:
        """How much of the next chunk comes before it."""
        if self.reached:
            return b""
        data = self._passed + chunk
        at = self._find(data)
        self.reached = at is not None and at <= len(data)
        before = data[len(self._passed) : at] if self.reached else chunk
        self._passed = data
        return before

    def _find(self, data: bytes) -> int | None:
        """Where it is; None where the frames up to it are not there yet."""
        if self._frame is None:
            return self._offset
        start = 0
        for _ in range(self._frame):
            if len(data) < start + 4:
                return None
            start += frame_size(data, start)
        if self._offset != LAST_BYTE:
            return start + self._offset
        return start + frame_size(data, start) - 1 if len(data) >= start + 4 else None


def frame_size(data: bytes, start: int) -> int:
    return 4 + int.from_bytes(data[start : start + 4], "little")


def frame_count(data: bytes) -> int:
    return len(FrameBuffer().feed(data))


class CutReceiving(Wrapped):
    """What the peer sends ends at a point: it closes, the network resets, or nothing comes any more."""

    def __init__(self, inner: trio.abc.Stream, point: CutPoint, then: Then) -> None:
        super().__init__(inner)
        self._point = point
        self._then = then

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        while not self._point.reached:
            chunk = bytes(await self.inner.receive_some(max_bytes))
            if not chunk:
                return b""
            if chunk := self._point.part_before(chunk):
                return chunk
        if self._then == "silence":
            await trio.sleep_forever()
        await trio.aclose_forcefully(self.inner)
        if self._then == "reset":
            raise trio.BrokenResourceError from ConnectionResetError("Connection reset by peer")
        await trio.lowlevel.checkpoint()
        return b""


class CutSending(Wrapped):
    """What we send ends at a point: the peer resets, or the rest goes nowhere."""

    def __init__(self, inner: trio.abc.Stream, point: CutPoint, then: Then) -> None:
        super().__init__(inner)
        self._point = point
        self._then = then

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if part := self._point.part_before(bytes(data)):
            await self.inner.send_all(part)
        await trio.lowlevel.checkpoint()
        if self._point.reached and self._then != "silence":
            await trio.aclose_forcefully(self.inner)
            raise trio.BrokenResourceError from BrokenPipeError("Broken pipe")


class Mutating(Wrapped):
    """Now and then, what the peer sent arrives damaged, or what we send."""

    def __init__(self, inner: trio.abc.Stream, random: Random, *, received: float = 0.0, sent: float = 0.0) -> None:
        super().__init__(inner)
        self._random = random
        self._received = received
        self._sent = sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        chunk = bytes(data)
        damage = chunk and self._random.random() < self._sent
        await self.inner.send_all(self._damage(chunk) if damage else chunk)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        while chunk := bytes(await self.inner.receive_some(max_bytes)):
            if self._random.random() >= self._received:
                return chunk
            if damaged := self._damage(chunk):
                return damaged
        return b""

    def _damage(self, chunk: bytes) -> bytes:
        random = self._random
        at = random.randrange(len(chunk))
        end = min(len(chunk), at + random.randint(1, 8))
        kind = random.choice(["flip", "drop", "insert", "truncate", "repeat", "again"])
        if kind == "flip":
            return chunk[:at] + bytes([chunk[at] ^ 1 << random.randrange(8)]) + chunk[at + 1 :]
        if kind == "drop":
            return chunk[:at] + chunk[end:]
        if kind == "insert":
            return chunk[:at] + random.randbytes(end - at) + chunk[at:]
        if kind == "truncate":
            return chunk[:at]
        if kind == "repeat":
            return chunk[:end] + chunk[at:]
        return chunk + chunk

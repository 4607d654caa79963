"""The server's side of one connection: a reader, a writer, and the heartbeats (docs/protocol.md, 1.1 and 1.3).

Rule 1: only the writer sends, so that a slow client blocks nothing but its own writer.
Rule 2: queueing never waits. A client that does not read is cut off by the send limit, as real servers do.
Rule 3: what was said after a write is kept back until that write is on the disk. Signs of life are not.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from trio_extreme.embedded.clients import Client
from trio_extreme.embedded.pages import Traffic
from trio_extreme.embedded.storage import StorageError
from trio_extreme.errors import ProtocolError
from trio_extreme.tasks import open_plain_nursery
from trio_extreme.transport import READ_SIZE
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION, Frame, FrameBuffer, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from trio_extreme.embedded.commits import Commits
    from trio_extreme.embedded.line import Line
    from trio_extreme.embedded.service import Service

_JOIN = 65_536
"""Bytes that are sent in one piece, where single packages are smaller."""
_PIECE = 65_536
"""Bytes of a large package that are sent at a time."""
_IDLE_TURNS = 10
"""Turns without progress after which a client is one that does not read."""
_YIELD_AFTER = 32
"""Packages answered before other tasks get their turn; none may starve beside a client that sends without pause."""
_GRACE = 1.0
"""Seconds that last words get."""
_COMMAND = 4
"""Where in a frame its command is."""


class Connection:
    """One client that is connected, from its first byte to the closing of its stream."""

    def __init__(self, service: Service, stream: trio.abc.Stream, random: Random, line: Line, commits: Commits) -> None:
        self.client = Client(service.store.version, self._send, self.hang_up)
        #: The package that is being answered.
        self.asked: Frame | None = None
        #: Whether nothing more is answered.
        self.hanging_up = False
        #: How many packages the line has delayed and will yet queue.
        self.on_its_way = 0
        self._service = service
        self._line = line
        self._commits = commits
        self._stream = stream
        self._random = random
        self._queue: deque[bytes] = deque()
        self._unsent = 0
        # Packages that are kept back, each with how many changes must be on the disk before it.
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_size = 0
        self._waits = False
        self._idle_writer = trio.lowlevel.ParkingLot()
        self._received = self._sent = 0
        self._vanished = False
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Connection of {self.client!r}: {self._unsent} bytes to send>"

    @property
    def traffic(self) -> Traffic:
        """What went over it so far."""
        is_secure = isinstance(self._stream, trio.SSLStream)
        stream = self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        if isinstance(stream, trio.SocketStream):
            here, peer = _address(stream.socket.getsockname), _address(stream.socket.getpeername)
        else:
            here = peer = "memory"
        return Traffic(peer, here, self.client.name, self._received, self._sent, self._unsent, is_secure)

    async def run(self) -> None:
        """Serve the client until either side closes. Raises nothing but what is a bug of this package."""
        try:
            with self._scope:
                async with open_plain_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch)
            if self._vanished:
                await self._swallow()
        finally:
            self._service.forget(self.client)
            await trio.aclose_forcefully(self._stream)

    def cut(self) -> None:
        """End it at once, without a word, as a network does."""
        self.hanging_up = True
        self._scope.cancel()

    def vanish(self) -> None:
        """End it, but leave its client without any sign of that: what it sends is taken, and goes nowhere."""
        # One that was cut in this turn is closed all the same.
        self._vanished = not self._scope.cancel_called
        self._service.forget(self.client)
        self.cut()

    def shut_down(self) -> None:
        """End it as a server does that shuts down: its subscriptions are told."""
        self._service.drop_all(self.client)
        self.hang_up()

    async def _read(self) -> None:  # noqa: ASYNC910 - it ends with the connection
        buffer = FrameBuffer()
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while chunk := await self._stream.receive_some(READ_SIZE):
                    self._received += len(chunk)
                    if self._line.stopped:
                        await self._line.go_on()
                    await self._answer(buffer.feed(chunk))
                    buffer.check()
            await self._line.go_on()
            self.cut()
        except ProtocolError as error:
            self._service.hang_up(self.client, f"Invalid TCP frame received. Error: {error}.")
        except StorageError as error:
            self._commits.fail(error)
            self.cut()

    async def _answer(self, frames: Sequence[Frame]) -> None:  # noqa: ASYNC910 - the reader waits for the socket next
        for index, frame in enumerate(frames, 1):
            if self.hanging_up:
                return  # noqa: ASYNC910 - as above
            self.asked = frame
            self._service.receive(self.client, frame)
            self.asked = None
            if self._unsent + self._kept_size > _PIECE or self._commits.is_crowded:
                await self._let_writer_go_on()
            elif index % _YIELD_AFTER == 0:
                await self._line.go_on()

    async def _swallow(self) -> None:  # noqa: ASYNC910 - it ends with the stream
        """Take what is sent until the client closes; the stream must stay open for it not to notice."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await self._stream.receive_some(READ_SIZE):
                pass

    async def _let_writer_go_on(self) -> None:  # noqa: ASYNC910 - only where there is something unsent
        """Give the writer turns as long as it uses them.

        Real servers read and send at the same time, so who asks for many pages at once and reads them is not cut off
        by the send limit. Who does not read makes no progress here, and is waited for no more than by a real server.
        What waits for the disk is waited for, or memory would fill with it.
        """
        if self._kept_size > _PIECE or self._commits.is_crowded:
            self._waits = True
            await self._commits.pass_by()
            self._waits = False
        idle_turns = 0
        while self._unsent > _PIECE and idle_turns < _IDLE_TURNS:
            unsent = self._unsent
            await self._line.go_on()
            idle_turns = idle_turns + 1 if self._unsent == unsent else 0

    async def _write(self) -> None:  # noqa: ASYNC910 - it ends with the connection
        try:
            while self._queue or self._kept or self.on_its_way or not self.hanging_up:
                if self._queue:
                    await self._send_pieces(memoryview(self._take()))
                else:
                    await self._idle_writer.park()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.cut()

    async def _send_pieces(self, data: memoryview) -> None:  # noqa: ASYNC910 - there is at least one piece
        """Send it so that it is seen how far it has come."""
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            if self._line.stopped:
                await self._line.go_on()
            await self._stream.send_all(piece)
            self._unsent -= len(piece)
            self._sent += len(piece)

    def _take(self) -> bytes:
        """What is sent next: one package, or many small ones in one piece."""
        parts = [self._queue.popleft()]
        size = len(parts[0])
        while self._queue and size + len(self._queue[0]) <= _JOIN:
            size += len(self._queue[0])
            parts.append(self._queue.popleft())
        return b"".join(parts)

    async def _watch(self) -> None:
        """Ask for a sign of life after an interval of silence, and hang up without a word where none comes.

        Any bytes are one: what they say is not looked at. Who is not listened to, because the disk is slow, need not
        give any.
        """
        version = self._service.store.version
        received = sent = 0
        waited = 0.0
        while True:
            await trio.sleep(version.heartbeat_interval - waited)
            await self._line.go_on()
            is_silent, is_idle = self._received == received, self._sent == sent
            received, sent, waited = self._received, self._sent, 0.0
            if is_silent or (is_idle and version.watches_both_ways):
                self.client.reply(Command.HEARTBEAT_REQUEST, self._random.randbytes(16))
            if is_silent:
                await trio.sleep(version.heartbeat_timeout)
                await self._line.go_on()
                if self._received == received and not self._waits:
                    self.cut()
                if version.watches_both_ways:
                    waited = version.heartbeat_timeout
                else:
                    received = self._received

    def _send(self, frame: bytes) -> None:
        """Queue a frame; the limits are on what waited before it, as in real servers."""
        if self.hanging_up:
            return
        version = self._service.store.version
        if len(self._queue) > version.queue_limit:
            self._overflow(f"Connection queue size is too large: {len(self._queue)}.")
        elif version.send_limit is not None and self._unsent > version.send_limit:
            self._overflow(f"Connection pending send bytes is too large: {self._unsent}.")
        elif self._line.busy:
            self._line.take(self, frame)
        else:
            self.queue(frame)

    def queue(self, frame: bytes) -> None:
        """Send a frame after those that are queued: the last step, for the line to take where a fault delays it."""
        # Of a frame that a fault has cut there may be less than that.
        command = frame[_COMMAND] if len(frame) > _COMMAND else None
        if self._commits.is_done or command in self._commits.passing:
            self._queue.append(frame)
            self._unsent += len(frame)
            self._idle_writer.unpark()
        else:
            self._kept.append((self._commits.written, frame))
            self._kept_size += len(frame)

    def release(self) -> None:
        """Send what was kept back for the writes that are on the disk now."""
        durable = self._commits.durable
        while self._kept and self._kept[0][0] <= durable:
            frame = self._kept.popleft()[1]
            self._kept_size -= len(frame)
            self._queue.append(frame)
            self._unsent += len(frame)
        self._idle_writer.unpark()

    def _overflow(self, text: str) -> None:
        """Close at once: the reason comes after whatever is being sent, if the client reads it in time."""
        self._queue.clear()
        self._kept.clear()
        self._line.pass_on(self, encode_frame(Command.BAD_REQUEST, NO_CORRELATION, text.encode()))
        self.hang_up()

    def hang_up(self) -> None:
        """Answer nothing more, and close when what is queued has been sent, or cannot be in time."""
        self.hanging_up = True
        self._idle_writer.unpark()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + _GRACE + self._line.delay)


def _address(ask: Callable[[], tuple[object, ...]]) -> str:
    """Address and port of one end of a socket, which may be gone."""
    try:
        return ":".join(str(part) for part in ask()[:2])
    except OSError:
        return "gone"

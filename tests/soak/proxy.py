"""A TCP proxy that is as unkind as networks are: it cuts, resets, stalls, swallows and splits, in both directions."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Literal, TypeAlias

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

Direction: TypeAlias = Literal["up", "down"]
"""Up is from the client to the node."""

_PORTS = range(20_000, 30_000)
_READ_SIZE = 65_536
_CRUMB = 40
"""Bytes of a crumb at most: less than most frames, often less than a frame's head."""
_BREATH = 0.001
"""Seconds between crumbs, so that they are read one by one."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST, and throws away what was not sent."""
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


async def listen(random: Random) -> trio.SocketListener:
    """Listen on a free port below those that systems give to clients.

    Who tries a port where nobody listens from the very same port is connected to itself: one attempt in 30,000.
    """
    while True:
        try:
            return await listen_again(random.choice(_PORTS))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


async def listen_again(port: int) -> trio.SocketListener:
    (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
    return listener


class _Lane:
    """One direction of a link."""

    def __init__(self, source: trio.SocketStream, sink: trio.SocketStream, random: Random) -> None:
        self._source = source
        self._sink = sink
        self._random = random
        #: How many more bytes pass before the link ends.
        self.allowance: int | None = None
        #: Nothing passes any more, and nobody is told.
        self.swallows = False
        #: Nothing passes before this time.
        self.stalled_until = 0.0

    async def pump(self) -> None:
        """Pass on what comes, until the source ends or the allowance is used up."""
        while chunk := await self._source.receive_some(_READ_SIZE):
            for piece in self._pieces(chunk):
                await trio.sleep_until(self.stalled_until)
                await self._pass_on(piece)
                if self.allowance == 0:
                    return
                if len(piece) <= _CRUMB:
                    await trio.sleep(_BREATH)

    async def _pass_on(self, piece: bytes) -> None:
        if self.allowance is not None:
            piece = piece[: self.allowance]
            self.allowance -= len(piece)
        if not self.swallows:
            await self._sink.send_all(piece)

    def _pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Most chunks as they are, some in two or three pieces, some beginning with crumbs: a reader must not care."""
        largest, count = self._random.choices([(0, 0), (len(chunk), 2), (_CRUMB, 20)], [7, 2, 1])[0]
        for _ in range(self._random.randint(0, count)):
            size = self._random.randint(1, largest)
            yield chunk[:size]
            chunk = chunk[size:]
            if not chunk:
                return
        yield chunk


class _Link:
    """A client's connection, and the one to the node that was made for it."""

    def __init__(self, client: trio.SocketStream, node: trio.SocketStream, random: Random) -> None:
        self._streams = client, node
        self.lanes: dict[Direction, _Lane] = {"up": _Lane(client, node, random), "down": _Lane(node, client, random)}
        self._scope = trio.CancelScope()
        #: It ends with RST rather than FIN.
        self.resets = False

    async def run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for lane in self.lanes.values():
                        nursery.start_soon(self._pump, lane)
        finally:
            for stream in self._streams:
                _close(stream, reset=self.resets)

    async def _pump(self, lane: _Lane) -> None:
        try:
            await lane.pump()
        except _BROKEN:
            self.resets = True
        if not lane.swallows:
            self._scope.cancel()

    def end(self, *, reset: bool) -> None:
        self.resets = reset
        self._scope.cancel()


def _close(stream: trio.SocketStream, *, reset: bool) -> None:
    if reset:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    stream.socket.close()


class Proxy:
    """Listens on loopback and passes everything on to a node, in other pieces than it came in.

    Each fault is a method. Those that are about links hit all of them, or a random choice: `share` is how many of the
    links, from 0 to 1, but one at least.
    """

    def __init__(self, node_port: int, random: Random) -> None:
        self._node_port = node_port
        self._random = random
        self._links: dict[_Link, None] = {}
        self._listening = trio.CancelScope()
        self._welcome = trio.Event()
        self._welcome.set()
        #: Where it listens; 0 before it does.
        self.port = 0

    @property
    def links(self) -> int:
        """How many clients are connected."""
        return len(self._links)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            listener = await listen(self._random)
            self.port = listener.socket.getsockname()[1]
            task_status.started()
            while True:
                with trio.CancelScope() as self._listening:
                    await trio.serve_listeners(self._serve, [listener], handler_nursery=nursery)
                while not self._welcome.is_set():
                    await self._welcome.wait()
                listener = await listen_again(self.port)

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            node = await trio.open_tcp_stream("127.0.0.1", self._node_port)
        except OSError:
            _close(client, reset=True)
            return
        link = _Link(client, node, self._random)
        self._links[link] = None
        try:
            await link.run()
        finally:
            del self._links[link]

    def _hit(self, share: float) -> list[_Link]:
        links = list(self._links)
        return self._random.sample(links, min(max(1, round(share * len(links))), len(links)))

    # --- faults

    def cut(self, *, reset: bool, share: float = 1) -> None:
        """End links, by FIN or RST; what was under way is lost with them."""
        for link in self._hit(share):
            link.end(reset=reset)

    def cut_after(self, size: int, direction: Direction, *, reset: bool, share: float = 1) -> None:
        """End links once so many more bytes have passed in that direction, wherever in a frame that is."""
        for link in self._hit(share):
            link.lanes[direction].allowance = size
            link.resets = reset

    def stall(self, seconds: float, *directions: Direction, share: float = 1) -> None:
        """Keep what comes, and pass it on later."""
        for link in self._hit(share):
            for direction in directions:
                link.lanes[direction].stalled_until = trio.current_time() + seconds

    def swallow(self, *directions: Direction, share: float = 1) -> None:
        """Pass nothing on any more, not even the end: half-open links, which only their silence gives away."""
        for link in self._hit(share):
            for direction in directions:
                link.lanes[direction].swallows = True

    def refuse(self) -> None:
        """Listen no more, until `accept`; the links stay."""
        self._welcome = trio.Event()
        self._listening.cancel()

    def accept(self) -> None:
        """Listen again."""
        self._welcome.set()

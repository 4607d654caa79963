"""The network between clients and the node: it delays, tears apart, cuts, and goes silent, as the weather says.

Each connection is two pipes in memory, bounded as sockets are, with a task for each direction in between. To the node
it is a client like any other; the client gets it through the seam it opens all its connections by.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

import trio

from tests.sessions.streams import Wrapped
from tests.simulation.trace import Cutter
from trio_extreme.embedded.memory import memory_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.simulation.trace import Frame, Trace
    from tests.simulation.weather import Blow, Fate, Weather
    from tests.simulation.wire import Wire
    from trio_extreme.transport import Connect

_READ_SIZE = 65_536

_TO_NODE = "⇒"
"""In a trace, what arrives at the node."""


class Network:
    """All connections of a simulation. `way` gives a client its `connect`."""

    def __init__(self, node: Connect, weather: Weather, trace: Trace) -> None:
        self._node = node
        self._weather = weather
        self._trace = trace
        self._nursery: trio.Nursery
        self.links: list[Link] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Nursery]:
        """Carry what is sent while the body runs; the nursery is for whatever else makes the weather."""
        async with trio.open_nursery() as self._nursery:
            yield self._nursery
            self._nursery.cancel_scope.cancel()

    def way(self, wire: Wire) -> Connect:
        """What a client connects by."""

        attempts = count(1)

        async def connect(host: str, port: int) -> trio.abc.Stream:
            weather = self._weather.over(f"{wire.client}{next(attempts)}")
            return await self._connect(wire, weather, host, port)

        return connect

    def strike_all(self, blow: Blow) -> None:
        """Let the same befall every connection."""
        for link in self.links:
            link.strike(blow)

    async def _connect(self, wire: Wire, weather: Weather, host: str, port: int) -> trio.abc.Stream:
        label = f"{wire.client}{len(wire.ends) + 1}"
        wire.connecting(label)
        await self._knock(label, weather)
        stream = await self._node(host, port)
        link = Link(label, stream, wire, weather, self._trace)
        self.links.append(link)
        self._nursery.start_soon(link.run)
        self._trace.note(label, "connected")
        return link.client_end

    async def _knock(self, label: str, weather: Weather) -> None:
        welcome = weather.welcome()
        if welcome == "accept":
            return
        self._trace.note(label, f"connecting: {welcome}")
        if welcome == "refuse":
            await trio.lowlevel.checkpoint()
            raise ConnectionRefusedError
        if welcome == "ignore":
            await trio.sleep_forever()
        await trio.sleep(1)


class ClientEnd(Wrapped):
    """The client's end of a connection, where it is seen what the client hands over and takes."""

    def __init__(self, inner: trio.abc.Stream, label: str, wire: Wire) -> None:
        super().__init__(inner)
        self.label = label
        self.was_reset = False
        self.is_closed = False
        self._wire = wire
        self._cutter = Cutter()
        wire.ends.append(self)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._wire.sends(self.label, self._cutter.feed(bytes(data)))
        self._check()
        await self.inner.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self._wire.asks_for_more(self.label)
        chunk = await self.inner.receive_some(max_bytes)
        self._check()
        self._wire.receives(self.label, bytes(chunk))
        return chunk

    async def aclose(self) -> None:
        self.is_closed = True
        await self.inner.aclose()

    def _check(self) -> None:
        if self.was_reset:
            raise trio.BrokenResourceError from ConnectionResetError("Connection reset by peer")


class Link:
    """One connection, from the client's end to the node's."""

    def __init__(self, label: str, node: trio.abc.Stream, wire: Wire, weather: Weather, trace: Trace) -> None:
        end, near = memory_connection(weather.capacity())
        self.client_end = ClientEnd(end, label, wire)
        self._label = label
        self._wire = wire
        self.weather = weather
        self._trace = trace
        self._fate = weather.fate()
        self._scope = trio.CancelScope()
        self._ends = near, node
        latency = weather.latency()
        self._there = Way(self, _TO_NODE, source=near, target=node, latency=latency)
        self._back = Way(self, "⇐", source=node, target=near, latency=latency)

    def __repr__(self) -> str:
        return f"<Link {self._label}>"

    async def run(self) -> None:
        """Carry in both directions until both have ended, or a blow ends them."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                if self._fate is not None:
                    self._arm(self._fate, nursery)
                async with trio.open_nursery() as ways:
                    ways.start_soon(self._there.carry)
                    ways.start_soon(self._back.carry)
                nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):  # noqa: ASYNC912 - there are two
            for end in self._ends:
                await trio.aclose_forcefully(end)

    def _arm(self, fate: Fate, nursery: trio.Nursery) -> None:
        self._there.fuse, self._back.fuse = fate.bytes_there, fate.bytes_back
        if fate.seconds is not None:
            nursery.start_soon(self._strike_later, fate.seconds, fate.blow)

    async def _strike_later(self, seconds: float, blow: Blow) -> None:
        await trio.sleep(seconds)
        self.strike(blow)

    def burn_down(self) -> None:
        """One direction has carried as many bytes as were granted to it."""
        assert self._fate is not None
        self.strike(self._fate.blow)

    def strike(self, blow: Blow) -> None:
        """Let this befall the connection now, unless the storm is over."""
        if self.weather.is_calm or self.client_end.is_closed:
            return
        self.note("", f"struck: {blow}")
        if blow in ("stall", "stall there"):
            self._there.stalled_until = self.weather.stall_end()
            self._back.stalled_until = self._there.stalled_until if blow == "stall" else 0.0
        elif blow in ("close", "reset"):
            self.client_end.was_reset = blow == "reset"
            self._scope.cancel()
        else:
            self._there.is_silent |= blow != "silence back"
            self._back.is_silent |= blow != "silence there"

    def note(self, arrow: str, what: str | Frame) -> None:
        """Put something about this connection into the trace."""
        self._trace.note(f"{self._label} {arrow}", what)

    def arrives(self, frame: Frame) -> None:
        """The node gets this."""
        self._wire.arrives(self._label, frame)


class Way:
    """One direction: takes what one end sends, and hands it to the other, later and in pieces."""

    def __init__(
        self, link: Link, arrow: str, *, source: trio.abc.Stream, target: trio.abc.Stream, latency: float
    ) -> None:
        self._link = link
        self._arrow = arrow
        self._source = source
        self._target = target
        self._latency = latency
        self._cutter = Cutter()
        #: Bytes until the blow falls; None for never.
        self.fuse: int | None = None
        self.is_silent = False
        self.stalled_until = 0.0

    async def carry(self) -> None:
        """Pass on what comes, until one of the ends is closed; the receiver learns it after all that was sent."""
        try:
            while chunk := await self._source.receive_some(_READ_SIZE):
                for piece in self._link.weather.pieces(bytes(chunk)):
                    await self._travel()
                    await self._deliver(piece)
            await self._travel()
            await trio.aclose_forcefully(self._target)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _travel(self) -> None:
        if delay := self._link.weather.delay(self._latency):
            await trio.sleep(delay)
        await trio.sleep_until(self.stalled_until)
        if self.is_silent:
            await trio.sleep_forever()

    async def _deliver(self, piece: bytes) -> None:
        if self.fuse is not None and len(piece) >= self.fuse:
            piece, rest, self.fuse = piece[: self.fuse], piece[self.fuse :], None
            await self._hand_over(piece)
            self._link.burn_down()
            # A stall or a silence holds back the rest.
            await self._travel()
            piece = rest
        elif self.fuse is not None:
            self.fuse -= len(piece)
        await self._hand_over(piece)

    async def _hand_over(self, piece: bytes) -> None:
        await self._target.send_all(piece)
        for frame in self._cutter.feed(piece):
            self._link.note(self._arrow, frame)
            if self._arrow == _TO_NODE:
                self._link.arrives(frame)

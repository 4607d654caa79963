"""A connection of the simulation: the library's, with every call written down and timed."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from math import inf
from typing import TYPE_CHECKING

import trio

from tests.simulation.ledger import in_words
from tests.simulation.wire import Wire
from trio_extreme import (
    ANY,
    ConnectionClosed,
    ConnectionLost,
    InvalidTransaction,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    StreamDeleted,
    StreamNotFound,
    WrongExpectedVersion,
)
from trio_extreme.client import serve
from trio_extreme.engine import Engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from random import Random

    from tests.simulation.determinism import Stalls
    from tests.simulation.ledger import Ledger, Told
    from tests.simulation.network import Network
    from tests.simulation.trace import Trace
    from trio_extreme import Connection, DeleteResult, NewEvent, Settings, WriteResult

BAD_LUCK = (ConnectionLost, OperationTimedOut, OutcomeUnknown, NotReady)
"""What a network that breaks, or a node that restarts, may lead to; nothing of it may come after the calm."""

REFUSALS = (WrongExpectedVersion, StreamDeleted, StreamNotFound, InvalidTransaction)
"""What the state of a stream may lead to, or that somebody changed their mind."""

_PAGE = 0.5
"""Seconds that one page takes at most."""

_OWN = 20
"""Requests that the client makes for itself and that pass the door: to introduce itself, look, subscribe again."""

_GRAIN = 0.05
"""Seconds by which the library may look late whether a call is out of time."""


class Client:
    """One connection, whose name is a letter. Its methods are the verbs, as workloads use them."""

    def __init__(
        self, name: str, settings: Settings, *, calm_at: float, stalls: Stalls, ledger: Ledger, trace: Trace
    ) -> None:
        self.name = name
        self.stalls = stalls
        self.settings = settings
        self.calm_at = calm_at
        self.trace = trace
        self.wire = Wire(name, settings.attempt_timeout, ledger, trace)
        self.conn: Connection
        self._is_open = True
        #: What each stream's subscriptions may hold at most: events, bytes.
        self.bounds: dict[str, tuple[int, int]] = {}
        self.ledger = ledger

    @asynccontextmanager
    async def connected(self, network: Network, random: Random, now: Callable[[], float]) -> AsyncIterator[Client]:
        """The connection is open while the body runs."""
        engine = Engine(self.settings, network.way(self.wire), rng=random, now=now)
        leaves_at = inf
        try:
            async with serve(engine) as self.conn:
                self.wire.look = self._check_bounds
                try:
                    yield self
                finally:
                    self._is_open = False
                    leaves_at = trio.current_time()
        finally:
            took = trio.current_time() - leaves_at - self.stalls.between(leaves_at, trio.current_time())
            if took > self.settings.close_timeout + _GRAIN:
                self.trace.problem(f"{self.name}: it took {took:.3f} s to leave")

    @property
    def bound(self) -> float:
        """Seconds within which everything must have come right after the last fault."""
        settings = self.settings
        return (
            settings.max_reconnect_delay
            + settings.connect_timeout
            + settings.identify_timeout
            + settings.heartbeat_interval
            + settings.heartbeat_timeout
            + settings.attempt_timeout
            + _PAGE
        )

    async def append(self, stream: str, events: Sequence[NewEvent], expected: int = ANY) -> WriteResult:
        """`Connection.append`, written down."""
        with self.in_time("append"):
            call = self.ledger.begin(self.name, "append", stream, expected, events)
            told: Told = None
            try:
                told = result = await self.conn.append(stream, events, expected=expected)
            except BaseException as error:
                told = error
                raise
            finally:
                self.ledger.end(call, told)
            return result

    async def delete(self, stream: str, *, hard: bool = False) -> DeleteResult:
        """`Connection.delete_stream` with ANY, written down."""
        with self.in_time("delete"):
            call = self.ledger.begin(self.name, "bury" if hard else "delete", stream, ANY)
            told: Told = None
            try:
                told = result = await self.conn.delete_stream(stream, expected=ANY, hard=hard)
            except BaseException as error:
                told = error
                raise
            finally:
                self.ledger.end(call, told)
            return result

    async def ping(self) -> None:
        """`Connection.ping`."""
        with self.in_time("ping"):
            await self.conn.ping()

    async def last_number(self, stream: str) -> int | None:
        """`Connection.last_number`."""
        with self.in_time("last_number"):
            return await self.conn.last_number(stream)

    def grant(self, source: str, events: int, size: int) -> None:
        """Say how much a subscription to this may hold."""
        most = self.bounds.get(source, (0, 0))
        self.bounds[source] = max(most[0], events), max(most[1], size)

    @contextmanager
    def in_time(self, verb: str, calls: int = 1, hands: Sequence[Client] = ()) -> Iterator[None]:
        """Every call ends within `operation_timeout`, and with an error that it may end with; so many by some."""
        began, hands = trio.current_time(), hands or (self,)
        try:
            yield
        except (*BAD_LUCK, *REFUSALS) as error:
            if began > self.calm_at + max(hand.bound for hand in hands) and isinstance(error, BAD_LUCK):
                self.trace.problem(f"{self.name}: {verb} failed in the calm: {in_words(error)}")
            raise
        except trio.Cancelled:
            raise
        # Whatever it is that no call should raise, it belongs into the trace.
        except Exception as error:
            if not self._is_open and isinstance(error, ConnectionClosed):
                raise
            self.trace.problem(f"{self.name}: {verb} raised {in_words(error)}, which it never should")
            raise
        finally:
            took = trio.current_time() - began - self.stalls.between(began, trio.current_time())
            if took > calls * (max(hand.settings.operation_timeout for hand in hands) + _GRAIN):
                self.trace.problem(f"{self.name}: {verb} took {took} s")

    def _check_bounds(self) -> None:
        now, limits = self.conn.statistics(), self.settings
        if now.in_flight > limits.max_in_flight + _OWN:
            self.trace.problem(f"{self.name}: {now.in_flight} requests in flight")
        for held in now.subscriptions:
            events, size = self.bounds[f"{held.stream}::{held.group}" if held.group else held.stream]
            if held.buffered_events > events or held.buffered_bytes > size:
                self.trace.problem(f"{self.name}: the memory is not bounded: {held}")

    def check_idle(self) -> None:
        """Nobody calls and nobody consumes, so nothing is in use."""
        now = self.conn.statistics()
        if (now.in_flight, now.waiting, now.queued_bytes, now.subscriptions) != (0, 0, 0, ()):
            self.trace.problem(f"{self.name}: nobody asks for anything any more, and there is left: {now}")

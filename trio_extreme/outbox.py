"""What waits to be sent: one lane for what must not wait, one for requests.

Callers put, the writer takes. They are joined by a memory channel of slots, not of bytes, so that a slot whose caller
has gone meanwhile is not sent any more.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio_extreme.pending import Slot

BATCH_SIZE = 65_536
"""Bytes joined into one send: above it joining costs more than the call it saves."""

MAX_URGENT = 10_000


class Outbox:
    """Two lanes of what is to be sent; urgent frames never wait behind requests, only behind the send under way."""

    def __init__(self, on_taken: Callable[[Slot[Any], float], None]) -> None:
        self._put, self._requests = trio.open_memory_channel["Slot[Any] | None"](inf)
        self._urgent: deque[bytes] = deque()
        self._joined: list[Callable[[], Iterable[bytes]]] = []
        self._on_taken = on_taken
        self._idle = trio.Event()
        self._closed = False

    def put(self, slot: Slot[Any]) -> None:
        """Queue a request."""
        self._put.send_nowait(slot)

    def put_urgent(self, frame: bytes) -> None:
        """Queue a frame before all requests."""
        self._urgent.append(frame)
        # The writer waits on one channel only; an empty item wakes it.
        if len(self._urgent) == 1:
            self._put.send_nowait(None)

    def put_joined(self, make: Callable[[], Iterable[bytes]]) -> None:
        """Queue frames before all others that are made when they are taken: until then there may come more to say."""
        self._joined.append(make)
        if len(self._joined) == 1:
            self._put.send_nowait(None)

    @property
    def crowded(self) -> bool:
        """Whether more urgent frames wait than a peer that reads them ever has."""
        return len(self._urgent) >= MAX_URGENT

    async def take(self) -> tuple[bytes, int]:
        """Wait for something to send: what to give to the socket, and how many frames that is.

        All that is urgent, then requests in order, until there are `BATCH_SIZE` bytes. Empty where all that was
        queued had lost its caller.
        """
        try:
            slot = self._requests.receive_nowait()
        except trio.WouldBlock:
            self._idle.set()
            slot = await self._requests.receive()
            if self._closed and slot is not None:
                # It was handed over, and the session ended before we had our turn: it is not this one's any more.
                self._on_taken(slot, trio.current_time())
                slot = None
        now = trio.current_time()
        parts: list[bytes] = []
        frames = size = 0
        while True:
            if self._joined:
                self._make_joined()
            if self._urgent:
                frames += len(self._urgent)
                size += sum(map(len, self._urgent))
                parts += self._urgent
                self._urgent.clear()
            if slot is not None:
                self._on_taken(slot, now)
                if not slot.gone and slot.error is None:
                    slot.sent = True
                    parts += (slot.head(), slot.payload)
                    frames += 1
                    size += slot.size
            if size >= BATCH_SIZE:
                break
            try:
                slot = self._requests.receive_nowait()
            except trio.WouldBlock:
                break
        return b"".join(parts), frames  # noqa: ASYNC910 - the writer sends next

    def _make_joined(self) -> None:
        """Acks before urgent frames: what unsubscribes must not overtake what was acked before."""
        made = [frame for make in self._joined for frame in make()]
        self._joined.clear()
        self._urgent.extendleft(reversed(made))

    def close(self) -> None:
        """Nothing is sent any more: let go of all that was queued."""
        self._closed = True
        with suppress(trio.WouldBlock):
            while True:
                slot = self._requests.receive_nowait()
                if slot is not None:
                    self._on_taken(slot, trio.current_time())
        self._urgent.clear()
        self._joined.clear()
        self._idle.set()

    async def flushed(self) -> None:
        """Wait until all that is queued now was given to the socket."""
        self._idle = trio.Event()
        self._put.send_nowait(None)
        await self._idle.wait()

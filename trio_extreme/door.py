"""The door: how many requests, and how many bytes of them, are inside at once. Callers wait before it in order."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from trio_extreme.pending import Slot


class Door:
    """Admits requests while there is room. One that is larger than all the room passes when it is empty."""

    def __init__(self, max_in_flight: int, max_queued_bytes: int) -> None:
        self._max_in_flight = max_in_flight
        self._max_queued_bytes = max_queued_bytes
        # A plain dict looks at all that was ever deleted at its front to find its first.
        self._waiting: OrderedDict[Slot[Any], None] = OrderedDict()
        self.in_flight = 0
        self.queued_bytes = 0

    @property
    def waiting(self) -> tuple[Slot[Any], ...]:
        """Who waits, first come first."""
        return tuple(self._waiting)

    def try_enter(self, size: int) -> bool:
        """Enter, if nobody waits and there is room."""
        if self._waiting or not self._has_room(size):
            return False
        self.admit(size)
        return True

    async def wait(self, slot: Slot[Any]) -> None:
        """Enter after all who came before. Raises the slot's error where it is failed meanwhile."""
        self._waiting[slot] = None
        try:
            await slot.event.wait()
            # Let in and cancelled at the same moment: what its caller gave up is not sent.
            await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            self._give_up(slot)
            raise
        if slot.error is not None:
            self._give_up(slot)
            raise slot.failure()

    def leave(self) -> None:
        """A request that was inside is done with."""
        self.in_flight -= 1
        if self._waiting:
            self._open()

    def admit(self, size: int) -> None:
        """Let in whatever there is: what must not wait."""
        self.in_flight += 1
        self.queued_bytes += size

    def readmit(self, slot: Slot[Any]) -> None:
        """Let in again what was inside before, as far as it has left: its place, its bytes."""
        if not slot.inside:
            slot.inside = True
            self.in_flight += 1
        if not slot.queued:
            slot.queued = True
            self.queued_bytes += slot.size

    def taken(self, size: int) -> None:
        """These bytes were taken to be sent, or are not to be sent any more."""
        self.queued_bytes -= size
        if self._waiting:
            self._open()

    def _give_up(self, slot: Slot[Any]) -> None:
        if slot in self._waiting:
            del self._waiting[slot]
        else:
            # It was let in, and left without going through.
            self.taken(slot.size)
            self.leave()
        self._open()

    def _has_room(self, size: int) -> bool:
        fits = not self.queued_bytes or self.queued_bytes + size <= self._max_queued_bytes
        return self.in_flight < self._max_in_flight and fits

    def _open(self) -> None:
        while self._waiting:
            slot = next(iter(self._waiting))
            if not self._has_room(slot.size):
                return
            del self._waiting[slot]
            self.admit(slot.size)
            slot.event.set()

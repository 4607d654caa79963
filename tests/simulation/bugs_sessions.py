"""Planted bugs of sessions: what leaves when, and what a connection leaves behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import trio

from tests.simulation.planting import bug
from trio_extreme import calls
from trio_extreme.calls import Calls
from trio_extreme.outbox import Outbox
from trio_extreme.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_extreme.pending import Slot


@bug
def buffer_kept_across_sessions() -> Iterator[None]:
    """Half a frame of the last session stands before the first bytes of the next."""
    init = Session.__init__
    buffers: dict[Any, Any] = {}

    def keep(self: Session, stream: Any, settings: Any, counters: Any, *args: Any, **options: Any) -> None:
        init(self, stream, settings, counters, *args, **options)
        self._buffer = buffers.setdefault(counters, self._buffer)

    with patch.object(Session, "__init__", keep):
        yield


@bug
def heartbeats_behind_requests() -> Iterator[None]:
    """What is urgent waits its turn among the requests."""

    def put_last(self: Outbox, frame: bytes) -> None:
        self._put.send_nowait(_Disguised(frame))  # type: ignore[arg-type]

    with patch.object(Outbox, "put_urgent", put_last):
        yield


@bug
def silence_not_noticed() -> Iterator[None]:
    """Nobody watches whether the server still says anything."""

    async def doze(self: Session) -> None:
        await trio.sleep_forever()

    with patch.object(Session, "_watch", doze):
        yield


@bug
def place_behind_the_door_lost() -> Iterator[None]:
    """Who is cancelled does not give back the place behind the door."""
    abandon = Calls.abandon

    def keep_inside(self: Calls, slot: Slot[Any]) -> None:
        slot.inside = slot.inside and slot.settled
        abandon(self, slot)

    with patch.object(Calls, "abandon", keep_inside):
        yield


@bug
def id_used_again() -> Iterator[None]:
    """An attempt has the correlation id of the one before, so that a late answer to that one finds it."""
    submit = Session.submit

    def keep_id(self: Session, slot: Slot[Any]) -> None:
        before = slot.correlation
        if any(before):
            self._next_correlation, following = (lambda: before), self._next_correlation
            submit(self, slot)
            self._next_correlation = following
        else:
            submit(self, slot)

    with patch.object(Session, "submit", keep_id):
        yield


@bug
def handed_over_after_the_end() -> Iterator[None]:
    """The writer sends what was handed to it when its session had just ended, though the next one sends it too."""
    close = Outbox.close

    def close_softly(self: Outbox) -> None:
        close(self)
        self._closed = False

    with patch.object(Outbox, "close", close_softly):
        yield


@bug
def last_come_first_sent() -> Iterator[None]:
    """A new session sends what waits for it in the wrong order."""
    serial = calls._serial

    with patch.object(calls, "_serial", lambda slot: -serial(slot)):
        yield


class _Disguised:
    """A frame that looks like a request to the writer."""

    queued = gone = False
    error = None
    operation = SimpleNamespace(prompt=False)

    def __init__(self, frame: bytes) -> None:
        self.payload = frame
        self.size = len(frame)

    def head(self) -> bytes:
        """It has its own."""
        return b""

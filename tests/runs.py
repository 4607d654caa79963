"""Frames in runs, as the reader files them, and back."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_extreme.pending import Slot
    from trio_extreme.wire.framing import Frame, Run


def runs_of(frames: Iterable[Frame]) -> list[Run]:
    """As they come where all of these are in one chunk."""
    return [(*header, [frame[3] for frame in some]) for header, some in groupby(frames, lambda frame: frame[:3])]


def frames_of(runs: Iterable[Run]) -> list[Frame]:
    """Each by itself."""
    return [(command, flags, correlation, body) for command, flags, correlation, bodies in runs for body in bodies]


def deliver(slot: Slot[object], frames: Iterable[Frame]) -> None:
    """As the reader does it with what came in one chunk."""
    for run in runs_of(frames):
        slot.deliver(run)

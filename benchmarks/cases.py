"""What is measured: each work by the bare loop and by the library, and how near the second is to be to the first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks import bare, library

Run: TypeAlias = Callable[[int, int], Awaitable[float]]
"""Against the peer on this port, does so much work; gives the seconds it took."""

EVENTS = 100_000


@dataclass(frozen=True)
class Way:
    """One way to do a work without the ruler, and the ratio to it that is aimed at (None: shown for information)."""

    name: str
    run: Run
    target: float | None


@dataclass(frozen=True)
class Work:
    """So many events or appends, as the ruler does them and in other ways."""

    name: str
    count: int
    ruler: Run
    ways: tuple[Way, ...]


WORKS = (
    Work(
        "live events",
        EVENTS,
        bare.live,
        (
            Way("batches()", library.live_batches, 0.85),
            Way("async for", library.live_events, 0.7),
            Way("caught up, batches()", library.caught_up_batches, 0.85),
            Way("caught up, async for", library.caught_up_events, 0.7),
        ),
    ),
    Work(
        "events of a group",
        EVENTS,
        bare.acked,
        (
            Way("batches(), ack(batch)", library.acked_batches, 0.7),
            Way("async for, ack(event)", library.acked_events, 0.7),
            Way("async for, auto_ack", library.auto_acked_events, None),
        ),
    ),
    Work(
        "pages",
        EVENTS,
        bare.pages,
        (
            Way(".pages()", library.pages, None),
            Way("async for", library.page_events, None),
            Way(".pages(), read ahead", library.pages_ahead, 0.85),
            Way("async for, read ahead", library.page_events_ahead, 0.65),
            Way("catching up, batches()", library.catch_up_batches, 0.8),
            Way("catching up, async for", library.catch_up_events, 0.6),
        ),
    ),
    Work(
        "a listener (to async for)",
        EVENTS,
        library.followed,
        (
            Way("stored each 1000", library.listened, 0.5),
            Way("stored each", library.listened_each, None),
            Way("batch=500", library.listened_batches, None),
        ),
    ),
    Work(
        "pipelined appends",
        20_000,
        bare.append_pipelined,
        (Way("100 tasks", library.append_pipelined, 0.7), Way("(100 bare tasks)", bare.append_by_tasks, None)),
    ),
    Work(
        "appends in turn",
        4_000,
        bare.append_in_turn,
        (Way("append", library.append_in_turn, 0.8), Way("(bare blocking socket)", bare.append_blocking, None)),
    ),
)

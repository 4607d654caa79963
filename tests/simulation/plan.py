"""What a seed stands for: which server, how patient the clients, how bad the weather, and who takes part."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.choices import CHOICES
from tests.simulation.determinism import chance
from tests.simulation.followers import CatchUp, Filtered, Live
from tests.simulation.readers import FilteredReader, Pinger, Reader
from tests.simulation.writers import (
    Bookkeeper,
    Contender,
    Crowd,
    Linker,
    Pipeline,
    Rebirth,
    SoleWriter,
    Trimmer,
    Undertaker,
    Visitor,
)
from trio_extreme import Settings
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.consumers import Consumer
    from tests.simulation.workloads import Stage, Workload

_MIB = 1024 * 1024


class Plan(NamedTuple):
    """One unlucky day. Times are in seconds."""

    version: str
    #: One for each client.
    settings: tuple[Settings, ...]
    #: When the last fault is over.
    calm_at: float
    #: Faults of the node a second, and how long the longest lasts.
    fault_rate: float
    longest_fault: float
    #: How often a second the whole program stands still for a while.
    stall_rate: float


def make_plan(seed: int) -> Plan:
    """The plan of a seed."""
    random = chance(seed, "plan")
    version = random.choice(("4.1.1", "4.1.1", "3.9.4"))
    filters = _filters(seed)
    return Plan(
        version=version if filters is None else filters.choice((version, "20.10", "20.10", "23.10")),
        settings=tuple(_settings(random) for _ in range(random.choice((1, 1, 2)))),
        calm_at=random.choice((5.0, 12.0, 25.0)),
        fault_rate=random.choice((0.0, 0.1, 0.3, 0.6)),
        longest_fault=random.choice((1.0, 5.0)),
        stall_rate=random.choice((0.0, 0.0, 0.05)),
    )


def _settings(random: Random) -> Settings:
    """A client that is quick to despair, and has little room: what takes long or much elsewhere happens here soon."""
    draw = random.choice
    return Settings(
        host="node",
        username="admin",
        password="changeit",
        connection_name="simulation",
        first_attempts=None,
        connect_timeout=draw((0.5, 1.5, 3.0)),
        identify_timeout=draw((0.5, 2.0)),
        reconnect_delay=draw((0.01, 0.1, 0.5)),
        max_reconnect_delay=draw((0.5, 2.0, 5.0)),
        heartbeat_interval=draw((0.5, 1.0, 2.0, 6.0)),
        heartbeat_timeout=draw((0.5, 1.0, 3.0)),
        attempt_timeout=draw((1.0, 3.0, 7.0)),
        operation_timeout=draw((5.0, 10.0, 30.0)),
        max_in_flight=draw((1, 3, 10, 5000)),
        max_queued_bytes=draw((1, 10_000, 64 * _MIB)),
        buffer_events=draw((1, 3, 20, 1000)),
        buffer_bytes=draw((1, 5000, 8 * _MIB, 8 * _MIB)),
        live_buffer_events=draw((1, 10, 10_000)),
        live_buffer_bytes=draw((5000, 32 * _MIB)),
        page_size=draw((1, 2, 10, 500)),
    )


def cast(seed: int, stage: Callable[[Random], Stage]) -> tuple[list[Workload], list[Consumer]]:
    """Who takes part: those that come to an end by themselves, and those that do not."""
    random = chance(seed, "cast")

    def on_stage() -> Stage:
        return stage(chance(seed, f"workload {random.getrandbits(32)}"))

    streams = ["sole", "shared"]
    writers: list[Workload] = [SoleWriter(on_stage(), "sole", random.randint(3, 20))]
    writers += [Contender(on_stage(), "shared", random.randint(3, 15)) for _ in range(random.randint(1, 3))]
    if random.random() < 0.3:
        writers.append(Crowd(on_stage(), "shared", random.randint(2, 40)))
    writers += [Visitor(on_stage(), "shared") for _ in range(random.choice((0, 0, 1, 2)))]
    for stream, likelihood in (("reborn", 0.6), ("pipe", 0.4), ("doomed", 0.3), ("trimmed", 0.3), ("links", 0.4)):
        if random.random() < likelihood:
            writers += _writers_of(stream, random, on_stage)
            streams.append(stream)
    if books := _bookkeepers(seed, stage):
        writers += books
        streams.append("books")
    writers += [Reader(on_stage(), random.choice(("sole", "shared", ALL)), 10) for _ in range(random.choice((0, 1, 1)))]
    writers += [Pinger(on_stage(), "shared", 10) for _ in range(random.choice((0, 1)))]
    consumers = [
        random.choice((CatchUp, CatchUp, CatchUp, Live, Live))(on_stage(), random.choice((*streams, "sole", ALL)))
        for _ in range(random.randint(2, 7))
    ]
    if (filters := _filters(seed)) is not None:
        # Drawn apart, so that the days without them stay what they were.
        consumers += [
            Filtered(stage(chance(seed, f"filtered {number}")), filters.choice(CHOICES))
            for number in range(filters.randint(1, 3))
        ]
        writers.append(FilteredReader(stage(chance(seed, "filtered reader")), filters.choice(CHOICES), 5))
    return writers, consumers


def _filters(seed: int) -> Random | None:
    """Chance for who filters, on the days on which anybody does."""
    filters = chance(seed, "what is chosen")
    return filters if filters.random() < 0.3 else None


def _bookkeepers(seed: int, stage: Callable[[Random], Stage]) -> list[Workload]:
    """Who writes in transactions; where nobody does, the day is what it was before there were any."""
    random = chance(seed, "books")
    if random.random() < 0.7:
        return []
    books: list[Workload] = [
        Bookkeeper(stage(chance(seed, f"bookkeeper {number}")), "books", random.randint(3, 10))
        for number in range(random.randint(1, 3))
    ]
    if random.random() < 0.5:
        books.append(Rebirth(stage(chance(seed, "auditor")), "books", random.randint(2, 8)))
    return books


def _writers_of(stream: str, random: Random, on_stage: Callable[[], Stage]) -> list[Workload]:
    appends = random.randint(3, 15)
    if stream == "reborn":
        return [Rebirth(on_stage(), stream, appends) for _ in range(random.randint(1, 4))]
    if stream == "pipe":
        return [Pipeline(on_stage(), stream)]
    if stream == "doomed":
        return [Contender(on_stage(), stream, appends), Undertaker(on_stage(), stream)]
    if stream == "trimmed":
        return [Contender(on_stage(), stream, appends), Trimmer(on_stage(), stream)]
    return [Linker(on_stage(), stream, ["sole", "shared", "doomed"])]

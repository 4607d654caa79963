"""A node that is killed with SIGKILL in the middle of appends: what its file holds then."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.embedded.persisting import running_node
from trio_extreme import ANY, NO_STREAM, ConnectFailed, NewEvent, OutcomeUnknown, Settings, open_connection
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trio_extreme import Connection, RecordedEvent, WriteResult

SETTINGS = Settings(
    username="admin",
    password="changeit",
    connect_timeout=1,
    first_attempts=1,
    max_attempts=1,
    reconnect_delay=0.01,
    max_reconnect_delay=0.01,
)
"""One attempt to come back, which fails: what is in doubt then stays so."""
SHARED = "shared"
WRITERS = 12
"""How many appends are under way at a time."""


@dataclass
class Batch:
    """One append: where it went, and what became of it. No result: its client does not know."""

    stream: str
    events: Sequence[NewEvent]
    result: WriteResult | None = None


class Writer:
    """Appends one batch after another, to a stream of its own with numbers, or to one that all share with ANY."""

    def __init__(self, name: str, random: Random, batches: list[Batch], acknowledged: Callable[[], None]) -> None:
        self._stream = name
        self._random = random
        self._batches = batches
        self._acknowledged = acknowledged

    async def run(self, conn: Connection) -> None:
        expected = ANY if self._stream == SHARED else NO_STREAM
        while True:
            events = [NewEvent("written", self._random.randbytes(200)) for _ in range(self._random.randint(1, 40))]
            batch = Batch(self._stream, events)
            self._batches.append(batch)
            try:
                batch.result = await conn.append(self._stream, events, expected=expected)
            except (OutcomeUnknown, ConnectFailed):
                return
            if expected != ANY:
                expected = batch.result.last
            self._acknowledged()


async def write_until_killed(path: Path, number: int, random: Random, batches: list[Batch]) -> None:
    """Returns when the node is dead and all writers know that."""
    acknowledgements = count(1)
    enough = trio.Event()
    wanted = random.randint(1, 60)

    def acknowledged() -> None:
        if next(acknowledgements) == wanted:
            enough.set()

    with running_node(path) as (process, port):
        async with open_connection(SETTINGS.replace(port=port)) as conn, trio.open_nursery() as nursery:
            for writer in range(WRITERS):
                name = SHARED if writer < WRITERS // 2 else f"own-{number}-{writer}"
                nursery.start_soon(Writer(name, random, batches, acknowledged).run, conn)
            await enough.wait()
            # Anywhere in what comes next.
            await trio.sleep(random.uniform(0, 0.02))
            process.kill()


async def check(path: Path, batches: Sequence[Batch]) -> int:
    """Hold what the file has against what its clients know; returns how many events there are."""
    by_stream: dict[str, list[Batch]] = {}
    for batch in batches:
        by_stream.setdefault(batch.stream, []).append(batch)
    async with open_node(port=None, path=path) as node, open_connection(node.settings, connect=node.connect) as conn:
        total = 0
        for stream, written in by_stream.items():
            events = [event async for event in conn.read_stream(stream, missing_ok=True)]
            check_stream(events, written)
            total += len(events)
        log = [event async for event in conn.read_all() if not event.is_system]
    places = [event.position for event in log]
    assert places == sorted(set(places))
    assert len(log) == len({event.id for event in log}) == total
    return total


def check_stream(events: Sequence[RecordedEvent], batches: Sequence[Batch]) -> None:
    assert [event.number for event in events] == list(range(len(events)))
    ids = [event.id for event in events]
    places = {event_id: number for number, event_id in enumerate(ids)}
    found = 0
    for batch in batches:
        wanted = [event.id for event in batch.events]
        first = places.get(wanted[0])
        if batch.result is not None:
            assert (first, first is not None and first + len(wanted) - 1) == (batch.result.first, batch.result.last)
        if first is None:
            # Not even a part of it.
            assert not places.keys() & set(wanted)
        else:
            assert ids[first : first + len(wanted)] == wanted
            found += len(wanted)
    # Nothing is there twice, and nothing that nobody wrote.
    assert found == len(ids) == len(places)


async def kill_again_and_again(path: Path, times: int, seed: int) -> list[Batch]:
    """All on one file, so that each process begins with what the one before has left."""
    random = Random(seed)
    batches: list[Batch] = []
    for number in range(times):
        await write_until_killed(path, number, random, batches)
        await check(path, batches)
    return batches


async def test_what_was_acknowledged_is_there_and_no_batch_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    batches = await kill_again_and_again(path, 10, seed=1)
    # It did not pass because nothing was written, or nothing interrupted.
    acknowledged = [batch for batch in batches if batch.result is not None]
    assert len(acknowledged) > 100
    assert len(batches) - len(acknowledged) == 10 * WRITERS
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.long
async def test_the_same_a_hundred_times(tmp_path: Path) -> None:
    for number in range(10):
        await kill_again_and_again(tmp_path / f"{number}.db", 10, seed=100 + number)

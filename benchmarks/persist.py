"""`python -m benchmarks.persist`: appends that survive a power cut, against a bare loop on SQLite.

The ruler is one Python loop that inserts the same batches into a table of the same columns, with the index that finds
an event by its number, and commits each, with the same pragmas. The library's appends go through a client, the wire,
and an embedded node with a file, all in this process, and each is awaited as users await it; so many at a time as is
said. A commit of the node takes what has come meanwhile, so more at a time means fewer waits for the disk.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import trio

from trio_extreme import ANY, NewEvent, open_connection
from trio_extreme.embedded import open_node

BATCH = 100
"""Events of one append."""
TARGET = 0.6
WINDOWS = (1, 4, 16)
"""How many appends are under way at a time."""
_SIZE = 256
"""Bytes of an event's data."""
_STREAM = "bench"
_TYPE = "BenchmarkEvent"
_DATA = bytes(_SIZE)
_TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
CREATE TABLE events (stream TEXT, number INTEGER, id BLOB, type TEXT, data BLOB, metadata BLOB, created INTEGER);
CREATE UNIQUE INDEX events_by_number ON events (stream, number);
"""


def bare(folder: Path, batches: int) -> float:
    """Seconds of the ruler."""
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as db:
        db.executescript(_TABLES)
        began = time.perf_counter()
        for batch in range(batches):
            created = time.time_ns()
            rows = [
                (_STREAM, batch * BATCH + index, os.urandom(16), _TYPE, _DATA, b"", created) for index in range(BATCH)
            ]
            db.execute("BEGIN")
            db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            db.execute("COMMIT")
        took = time.perf_counter() - began
        assert db.execute("SELECT count(*) FROM events").fetchone() == (batches * BATCH,)
    return took


async def appends(folder: Path, batches: int, window: int) -> float:
    """Seconds for the same through client and node, so many appends at a time."""
    left = iter(range(batches))
    async with (
        open_node(port=None, path=folder / "node.db") as node,
        open_connection(node.settings, connect=node.connect) as conn,
    ):

        async def append() -> None:
            for _ in left:
                await conn.append(_STREAM, [NewEvent(_TYPE, _DATA) for _ in range(BATCH)], expected=ANY)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(window):
                nursery.start_soon(append)
        took = time.perf_counter() - began
        assert await conn.last_number(_STREAM) == batches * BATCH - 1
    return took


def measure(rounds: int, batches: int, where: Path | None) -> dict[int, list[float]]:
    """The seconds of each window, and of the ruler as that of 0, once a round."""
    seconds: dict[int, list[float]] = {window: [] for window in (0, *WINDOWS)}
    for number in range(rounds):
        for window, results in seconds.items():
            with TemporaryDirectory(dir=where) as folder:
                if window:
                    results.append(trio.run(partial(appends, Path(folder), batches, window)))
                else:
                    results.append(bare(Path(folder), batches))
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return seconds


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.persist", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many counts (default %(default)s)")
    parser.add_argument("--batches", type=int, default=200, help=f"appends of {BATCH} events (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the files are: on the disk that is meant")
    arguments = parser.parse_args()
    seconds = measure(arguments.rounds, arguments.batches, arguments.folder)
    ruler = seconds.pop(0)
    events = arguments.batches * BATCH
    print(f"{'bare loop':24}{events / min(ruler):12,.0f} events/s")
    for window, own in seconds.items():
        ratio = min(ruler) / min(own)
        within = median(a / b for a, b in zip(ruler, own, strict=True))
        missed = "  missed" if ratio < TARGET else ""
        print(f"{window:3} appends at a time   {events / min(own):12,.0f} events/s{ratio:8.2f}{within:8.2f}{missed}")
    print(
        f"ratio: best round against the bare loop's best, target {TARGET}; then the median of those within each round"
    )


if __name__ == "__main__":
    _main()

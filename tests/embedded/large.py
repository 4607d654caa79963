"""`python -m tests.embedded.large FILE`: opens a node on a file, reads from anywhere in it, and prints what that cost.

One JSON object: bytes that opening read from files, and bytes of memory that it and the reading took.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import trio

from trio_extreme import NewEvent, Position, open_connection
from trio_extreme.embedded import open_node
from trio_extreme.embedded.sqlite_storage import SqliteStorage
from trio_extreme.embedded.store import Store
from trio_extreme.embedded.versions import find_version
from trio_extreme.values import ANY
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from trio_extreme import Connection

STREAMS = 20
"""Streams of equal length, one behind the other in batches."""
_BATCH = 50
_DATA = bytes(200)
_PAGE = 200
_READS = 30
_BEGIN = 168
"""Where the first event is."""


def make_file(path: Path, events: int) -> None:
    """A node's file with so many events."""
    random = Random(1)
    storage = SqliteStorage(path, find_version("4.1.1"))
    store = Store(find_version("4.1.1"), storage=storage, random=random)
    for batch in range(events // _BATCH):
        new = [schema.NewEvent(event_id=random.randbytes(16), event_type="happened", data=_DATA) for _ in range(_BATCH)]
        store.append(stream_name(batch % STREAMS), ANY, new)
        if storage.gathered > 1_000_000:
            group = storage.take()
            storage.commit(group)
            storage.settle(group)
    storage.close()


def stream_name(number: int) -> str:
    return f"stream-{number:02}"


async def _measure(path: Path) -> dict[str, int]:
    gc.collect()
    memory, read = _resident(), _read_bytes()
    async with open_node(port=None, path=path) as node, open_connection(node.settings, connect=node.connect) as conn:
        costs = {"opening_read": _read_bytes() - read, "opening_memory": _resident() - memory}
        events = await _read_everywhere(conn)
        await conn.append(stream_name(7), NewEvent("happened"), expected=events // STREAMS - 1)
    return costs | {"events": events, "reading_memory": _resident() - memory}


async def _read_everywhere(conn: Connection) -> int:
    """Pages of streams and of the log, both ways, from anywhere; returns how many events there are."""
    random = Random(2)
    length = (await conn.last_number(stream_name(0)) or 0) + 1
    events, end = length * STREAMS, (await conn.head()).commit
    size = (end - _BEGIN) // events
    for _ in range(_READS):
        stream, start = stream_name(random.randrange(STREAMS)), random.randrange(length)
        numbers = [event.number async for event in conn.read_stream(stream, start=start, count=_PAGE)]
        assert numbers == list(range(start, min(start + _PAGE, length)))
        numbers = [event.number async for event in conn.read_stream(stream, start=start, backwards=True, count=_PAGE)]
        assert numbers == list(range(start, max(start - _PAGE, -1), -1))
        # All records have the same size.
        place = _BEGIN + size * random.randrange(events)
        at = Position(place, place)
        places = [event.position async for event in conn.read_all(start=at, count=_PAGE)]
        assert places == [Position(each, each) for each in range(place, end, size)][:_PAGE]
        places = [event.position async for event in conn.read_all(start=at, backwards=True, count=_PAGE)]
        assert places == [Position(each, each) for each in range(place - size, _BEGIN - 1, -size)][:_PAGE]
    return events


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _read_bytes() -> int:
    """Bytes that this process has read from files, cached or not."""
    (line,) = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")]
    return int(line.split()[1])


if __name__ == "__main__":
    print(json.dumps(trio.run(_measure, Path(sys.argv[1]))))  # noqa: T201 - to the test that asked

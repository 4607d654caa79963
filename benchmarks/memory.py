"""`python -m benchmarks.memory`: the peak memory of a process that reads 2,000 events of 1 MiB in pages.

The events come from a peer in another process, which makes them on the fly; only this process is measured.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path

import trio

from benchmarks.library import settings
from benchmarks.peer import STREAM, running_peer
from trio_extreme import open_connection

EVENTS = 2_000
SIZE = 1024 * 1024


def peak_memory() -> int:
    """The most bytes this process had resident, since it was this program (Linux).

    Not `getrusage`, whose figure a child inherits: started by a test run of 200 MB, nothing here could be seen.
    """
    status = Path("/proc/self/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


async def _read(port: int, events: int, size: int) -> None:
    expected = 0
    async with open_connection(settings(port)) as conn:
        async for page in conn.read_stream(STREAM).pages():
            for event in page:
                assert event.number == expected
                assert len(event.data) == size
                expected += 1
    assert expected == events


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--size", type=int, default=SIZE)
    arguments = parser.parse_args()
    with running_peer(arguments.events, arguments.size, "--on-the-fly") as port:
        before = peak_memory()
        began = time.perf_counter()
        trio.run(_read, port, arguments.events, arguments.size)
        took = time.perf_counter() - began
    print(json.dumps({"before": before, "peak": peak_memory(), "seconds": round(took, 2)}))


if __name__ == "__main__":
    _main()

"""`python -m benchmarks.node`: how fast the embedded node is, by what the canned peer lets the library do.

Node and peer are processes of their own, and the library does the same against both, in turn: appends of 500 events,
and reads of what was appended, in pages of 500. The peer only knows how to answer, so it is the most that can be had.
"""

from __future__ import annotations

import argparse
import sys
import time
from statistics import median

import trio

from benchmarks.bare import BATCH, PAGE_SIZE
from benchmarks.library import append_batches, settings
from benchmarks.peer import EVENT_SIZE, STREAM, running, running_peer
from trio_extreme import open_connection

TARGET = 0.5


async def read_pages(port: int, events: int) -> float:
    """Seconds to read so many events of the stream."""
    seen = 0
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        async with conn.read_stream(STREAM, page_size=PAGE_SIZE, count=events) as reader:
            async for page in reader.pages():
                seen += len(page)
        took = time.perf_counter() - began
    assert seen == events
    return took


WORKS = {f"appends of {BATCH} events": append_batches, f"pages of {PAGE_SIZE}": read_pages}


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many counts (default %(default)s)")
    parser.add_argument("--events", type=int, default=50_000, help="in a round (default %(default)s)")
    arguments = parser.parse_args()
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in WORKS}
    with running_peer(arguments.events, EVENT_SIZE) as peer, running("benchmarks.serving") as (node, _):
        for number in range(arguments.rounds):
            for name, work in WORKS.items():
                for port, results in zip((peer, node), seconds[name], strict=True):
                    results.append(trio.run(work, port, arguments.events))
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    for name, (by_peer, by_node) in seconds.items():
        ratio = min(by_peer) / min(by_node)
        within = median(a / b for a, b in zip(by_peer, by_node, strict=True))
        missed = "  missed" if ratio < TARGET else ""
        rate = arguments.events / min(by_node)
        print(f"{name:24}{rate:12,.0f} events/s{ratio:8.2f}{within:8.2f}{missed}")
    print(
        f"ratio: best round against the canned peer's best, target {TARGET}; then the median of those within each round"
    )


if __name__ == "__main__":
    _main()

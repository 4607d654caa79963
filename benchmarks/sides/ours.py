"""Our library by its two ways, and the bare loop: `python -m benchmarks.sides.ours bare live 1113 100000 256`.

How large events are is read from the environment by the modules that this stands on, so it is not looked at here.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import trio

from benchmarks import bare, library
from benchmarks.memory import peak_memory

if TYPE_CHECKING:
    from benchmarks.cases import Run

WAYS: dict[str, dict[str, Run]] = {
    "bare": {
        "pages": bare.pages,
        "catch_up": bare.pages,
        "live": bare.live,
        "in_turn": bare.append_in_turn,
        "pipelined": bare.append_pipelined,
        "batches": bare.append_batches,
        "group": bare.acked,
        "many": bare.live_to_many,
    },
    "lists": {
        "pages": library.pages_ahead,
        "catch_up": library.catch_up_batches,
        "live": library.live_batches,
        "group": library.acked_batches,
    },
    "events": {
        "pages": library.page_events_ahead,
        "catch_up": library.catch_up_events,
        "live": library.live_events,
        "in_turn": library.append_in_turn,
        "pipelined": library.append_pipelined,
        "batches": library.append_batches,
        "group": library.acked_events,
        "many": library.live_to_many,
        "b1": library.b1,
        "b2": library.b2,
        "b3": library.b3,
    },
}


def _main() -> None:
    way, work, port, events, _ = sys.argv[1:]
    if work == "pings":
        result = {"pings": trio.run(library.ping_under_load, int(port), int(events))}
    else:
        result = {"seconds": trio.run(WAYS[way][work], int(port), int(events))}
    print(json.dumps({**result, "memory": peak_memory()}))


if __name__ == "__main__":
    _main()

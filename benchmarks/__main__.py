"""`python -m benchmarks`: the library against the bare loop, in one run, interleaved, printed as ratios.

Machines drift by more than the ratios do, so figures of different runs are not to be compared; ratios are.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import trio
from google.protobuf.internal import api_implementation

from benchmarks.cases import EVENTS, WORKS, Run, Way, Work
from benchmarks.peer import EVENT_SIZE, running_peer

Seconds = dict[Run, list[float]]


def _settle_memory() -> None:
    """Bring the allocator to where it is in a program that once held something large.

    Until then glibc gives the memory of each received chunk back to the system and faults it in again for the next.
    That cost the bare loop a quarter of its speed in pages, or nothing, depending on what had run before.
    """
    bytes(16 * 1024 * 1024)


def _measure(port: int, rounds: int, divisor: int) -> Seconds:
    """The seconds of each ruler and each way, once a round, so that a slow spell of the machine meets all of them."""
    seconds: Seconds = defaultdict(list)
    for round_ in range(rounds):
        for work in WORKS:
            for run in (work.ruler, *(way.run for way in work.ways)):
                gc.collect()
                seconds[run].append(trio.run(run, port, work.count // divisor))
        print(f"round {round_ + 1} of {rounds}", file=sys.stderr)
    return seconds


def _result(work: Work, way: Way, seconds: Seconds, count: int) -> dict[str, Any]:
    ruler, own = seconds[work.ruler], seconds[way.run]
    return {
        "work": work.name,
        "way": way.name,
        "count": count,
        "bare_per_second": round(count / min(ruler)),
        "per_second": round(count / min(own)),
        "ratio": round(min(ruler) / min(own), 3),
        "median_ratio": round(median(a / b for a, b in zip(ruler, own, strict=True)), 3),
        "target": way.target,
        "bare_seconds": ruler,
        "seconds": own,
    }


def _print(results: list[dict[str, Any]]) -> None:
    print(f"{'':41}{'bare /s':>12}{'/s':>12}{'ratio':>8}{'median':>8}{'target':>8}")
    for result in results:
        name = f"{result['work']}, {result['way']}"
        target = result["target"] or ""
        missed = "  missed" if target and result["ratio"] < target else ""
        print(
            f"{name:41}{result['bare_per_second']:12,}{result['per_second']:12,}"
            f"{result['ratio']:8.2f}{result['median_ratio']:8.2f}{target:>8}{missed}"
        )
    print("ratio: best round against the bare loop's best; median: of the ratios within each round")


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "trio": version("trio"),
        "protobuf": f"{version('protobuf')} {api_implementation.Type()}",
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "event_size": EVENT_SIZE,
    }


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many counts (default 5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: does it run at all")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write machine, versions and all figures there")
    arguments = parser.parse_args()
    divisor = 10 if arguments.quick else 1
    environment = _environment()
    print(*(f"{key} {value}" for key, value in environment.items()), sep=", ")
    _settle_memory()
    with running_peer(EVENTS // divisor, EVENT_SIZE) as port:
        seconds = _measure(port, arguments.rounds, divisor)
    results = [_result(work, way, seconds, work.count // divisor) for work in WORKS for way in work.ways]
    _print(results)
    if arguments.json:
        arguments.json.write_text(json.dumps({"environment": environment, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    _main()

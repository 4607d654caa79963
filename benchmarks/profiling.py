"""`python -m benchmarks.profiling live_batches`: where one case of `benchmarks.library` spends its time.

The profiler's own cost falls on calls: it shows what is called how often, not what it really takes. Believe a change
only when `python -m benchmarks` shows it.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats

import trio

from benchmarks.cases import EVENTS, WORKS
from benchmarks.peer import EVENT_SIZE, running_peer


def _main() -> None:
    runs = {run.__name__: (run, work.count) for work in WORKS for run in (way.run for way in work.ways)}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("case", choices=runs)
    parser.add_argument("--sort", default="tottime", help="as in pstats (default tottime)")
    parser.add_argument("--lines", type=int, default=30)
    arguments = parser.parse_args()
    run, count = runs[arguments.case]
    with running_peer(EVENTS, EVENT_SIZE) as port, cProfile.Profile() as profile:
        trio.run(run, port, count)
    pstats.Stats(profile).sort_stats(arguments.sort).print_stats(arguments.lines)


if __name__ == "__main__":
    _main()

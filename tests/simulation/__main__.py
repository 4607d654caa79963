"""The simulation from the command line: `python -m tests.simulation --seeds 1000`, `… --seed 1234 --trace`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from contextlib import ExitStack
from itertools import count, islice
from multiprocessing import Pool
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.bugs import BUGS
from tests.simulation.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.simulation.trace import Trace

_AROUND = 300
"""Lines of the trace shown before a problem, and a tenth of it after."""
_LONGEST = 300
"""Characters of a line."""


class Result(NamedTuple):
    """What is kept of a run by who has thousands."""

    seed: int
    bug: str
    problems: list[str]


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    options = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    options.add_argument("--seed", type=int, help="run this one, and show what is wrong and the trace around it")
    options.add_argument("--trace", action="store_true", help="with --seed: show all of the trace")
    options.add_argument("--seeds", type=int, default=150, help="how many to run")
    options.add_argument("--first", type=int, default=0, help="the first of them")
    options.add_argument("--minutes", type=float, help="run as many as this time allows instead")
    options.add_argument("--at-least", type=int, default=0, help="with --minutes: go on until there are so many")
    options.add_argument("--jobs", type=int, default=1, help="processes")
    options.add_argument("--bug", default="", choices=["", *BUGS], help="break the library first: what is found then?")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; the number of seeds that failed."""
    options = parser().parse_args(arguments)
    if options.seed is not None:
        return show(options.seed, options.bug, whole=options.trace)
    seeds: Iterable[int] = count(options.first)
    if options.minutes is None:
        seeds = islice(seeds, options.seeds)
        return sweep(seeds, options.bug, options.jobs, lambda done: True)
    end = time.monotonic() + options.minutes * 60
    return sweep(seeds, options.bug, options.jobs, lambda done: done < options.at_least or time.monotonic() < end)

"""The simulation from the command line.

python -m tests.simulation --seeds 1000 --jobs 2    a thousand seeds on both cores
python -m tests.simulation --seed 1234              one of them: what is wrong with it, and the frames around that
python -m tests.simulation --seed 1234 --trace      all that happened in it
python -m tests.simulation --bug NAME --seeds 1000  whether a planted bug is found, and how often
python -m tests.simulation --pin --jobs 2           find anew the seeds that `seeds` has, and write them there
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from itertools import count, islice, takewhile
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tests.simulation.bugs import BUGS, WITH_A_FILE, planted
from tests.simulation.clusters import simulate_cluster
from tests.simulation.listening import simulate_listeners
from tests.simulation.pinning import pin
from tests.simulation.report import command, report
from tests.simulation.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.simulation.clusters import ClusterOutcome
    from tests.simulation.listening import ListeningOutcome
    from tests.simulation.simulation import Outcome

_CHUNK = 5
"""Seeds handed to a process at a time."""


class Verdict(NamedTuple):
    """What is kept of a run where there are thousands."""

    seed: int
    problems: list[str]


Judge: TypeAlias = "Callable[[list[int]], list[Verdict]]"
"""Runs some seeds."""


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; 1 where a seed failed."""
    options = _parser().parse_args(arguments)
    if options.pin:
        return not pin(options.jobs, _say)
    kind = options.kind or ("persist" if options.bug in WITH_A_FILE else "")
    if options.seed is not None:
        with planted(options.bug):
            outcome = live(options.seed, kind)
        for line in report(outcome, options.bug, whole=options.trace):
            _say(line)
        return bool(outcome.problems)
    return sweep(_seeds(options), options.bug, options.jobs, kind=kind)


def live(seed: int, kind: str) -> Outcome | ClusterOutcome | ListeningOutcome:
    """Run the day of this kind that a seed stands for."""
    others = {"cluster": simulate_cluster, "listen": simulate_listeners}
    return others[kind](seed) if kind in others else simulate(seed, persists=kind == "persist")


def sweep(seeds: Iterable[int], bug: str, jobs: int, *, kind: str) -> int:
    """Run many; each that failed is told at once, and all at the end."""
    began, done, failed = time.monotonic(), 0, []
    for verdict in _judge_all(seeds, partial(judge, bug, kind=kind), jobs):
        done += 1
        if verdict.problems:
            failed.append(verdict)
            _say(f"{command(verdict.seed, bug, kind=kind)}\n    {verdict.problems[0]}")
        _show_progress(done, len(failed), time.monotonic() - began)
    _summarize(failed, done, time.monotonic() - began)
    return bool(failed)


def _judge_all(seeds: Iterable[int], judge: Judge, jobs: int) -> Iterator[Verdict]:
    """The verdicts as they come. Seeds are taken only when somebody is free, so that time may end them."""
    waiting = iter(seeds)
    with ProcessPoolExecutor(jobs) as pool:
        running = {pool.submit(judge, some) for _ in range(2 * jobs) if (some := _some(waiting))}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(judge, seeds) for _ in done if (seeds := _some(waiting))}
            for future in done:
                yield from future.result()


def _some(seeds: Iterator[int]) -> list[int]:
    return list(islice(seeds, _CHUNK))


def judge(bug: str, seeds: Iterable[int], *, kind: str) -> list[Verdict]:
    """Some runs, in a process that has many to do."""
    with planted(bug):
        return [Verdict(seed, live(seed, kind).problems) for seed in seeds]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: show all that happened")
    parser.add_argument("--seeds", type=int, default=150, help="how many to run (150)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--minutes", type=float, help="run seeds for so long instead …")
    parser.add_argument("--at-least", type=int, default=0, help="… and until there are so many")
    kinds = parser.add_mutually_exclusive_group()
    for kind, words in (
        ("persist", "days on which the node keeps its log in a file"),
        ("cluster", "days of a cluster"),
        ("listen", "days of listeners"),
    ):
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, default="", help=words)
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--pin", action="store_true", help="find seeds for all planted bugs, and write them down")
    parser.add_argument("--bug", default="", choices=["", *BUGS], metavar="NAME", help=f"one of {', '.join(BUGS)}")
    return parser


def _seeds(options: argparse.Namespace) -> Iterator[int]:
    if options.minutes is None:
        return islice(count(options.first), options.seeds)
    end = time.monotonic() + options.minutes * 60
    enough = options.first + options.at_least
    return takewhile(lambda seed: seed < enough or time.monotonic() < end, count(options.first))


def _show_progress(done: int, failed: int, seconds: float) -> None:
    if sys.stderr.isatty() or done % 500 == 0:
        sys.stderr.write(f"\r{done} seeds, {failed} failed, {done / seconds:.1f} a second")
        sys.stderr.flush()


def _summarize(failed: list[Verdict], done: int, seconds: float) -> None:
    kinds = Counter(_kind(problem) for verdict in failed for problem in verdict.problems[:1])
    for kind, times in kinds.most_common():
        _say(f"{times:6} × {kind}")
    _say(f"{done} seeds in {seconds:.0f} s ({done / seconds:.1f} a second), {len(failed)} failed")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _kind(problem: str) -> str:
    """A problem without what differs between two of its kind."""
    line = problem.strip().splitlines()[-1]
    return "".join("#" if letter.isdigit() else letter for letter in line)[:160]


if __name__ == "__main__":
    sys.exit(main())

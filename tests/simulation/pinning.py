"""Seeds that show what they are to show, found anew: `python -m tests.simulation --pin`.

Whatever changes what is drawn, in the simulation or in what the library asks of chance, makes other days of the seeds.
Then the smallest seeds are looked for by which each planted bug is found, and that are good without it; and some on
which all happens that has to. They are written into `seeds`.
"""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.bugs import BUGS, WITH_A_FILE, planted
from tests.simulation.simulation import simulate
from tests.simulation.unlucky import UNLUCKY, happened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENOUGH = 2000
"""Seeds that are tried. A bug that none of them finds is one that the simulation does not see."""
_DAYS = 100
"""Seeds of which the unlucky ones are chosen."""
_SEEDS = Path(__file__).with_name("seeds.py")


def pin(jobs: int, say: Callable[[str], None]) -> bool:
    """Find all, tell and write them; whether all were found."""
    with ProcessPoolExecutor(jobs) as pool:
        told = pool.map(_happenings, range(_DAYS))
        found = {}
        for bug, seed in zip(BUGS, pool.map(find, BUGS), strict=True):
            found[bug] = seed
            say(f"{seed!s:>6} {bug}")
        days, missing = choose(list(told))
    say(f"{days} are unlucky" + (f", but there is never {', '.join(missing)}" if missing else ""))
    if missing or None in found.values():
        return False
    _SEEDS.write_text(written(_SEEDS.read_text(), found, days))
    return True


def find(bug: str) -> int | None:
    """The smallest seed that finds this bug, and nothing without it."""
    persists = bug in WITH_A_FILE
    return next((seed for seed in range(_ENOUGH) if _finds(seed, bug, persists=persists)), None)


def _finds(seed: int, bug: str, *, persists: bool) -> bool:
    with planted(bug):
        problems = simulate(seed, persists=persists).problems
    return bool(problems) and not simulate(seed, persists=persists).problems


def _happenings(seed: int) -> set[str]:
    return happened(simulate(seed).trace.headlines())


def choose(told: list[set[str]]) -> tuple[list[int], list[str]]:
    """Few of these days, on which together all happens; and what never does."""
    missing, days = set(UNLUCKY), []
    while missing:
        best = max(range(len(told)), key=lambda seed: len(told[seed] & missing))
        if not told[best] & missing:
            break
        days.append(best)
        missing -= told[best]
    return sorted(days), sorted(missing)


def written(text: str, found: dict[str, int | None], days: list[int]) -> str:
    """The module `seeds` with these seeds in it."""
    table = "".join(_lines(found))
    text = re.sub(r"^FOUND_BY = \{\n.*?^\}$", f"FOUND_BY = {{\n{table}}}", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^UNLUCKY_DAYS = .*$", f"UNLUCKY_DAYS = ({', '.join(map(str, days))})", text, flags=re.MULTILINE)


def _lines(found: dict[str, int | None]) -> Iterator[str]:
    return (f'    "{bug}": {seed},\n' for bug, seed in found.items())

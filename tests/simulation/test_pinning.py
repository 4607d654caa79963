"""What `--pin` chooses, and where it writes it."""

from __future__ import annotations

from pathlib import Path

from tests.simulation import seeds
from tests.simulation.bugs import BUGS
from tests.simulation.pinning import choose, find, written
from tests.simulation.seeds import FOUND_BY, UNLUCKY_DAYS
from tests.simulation.unlucky import UNLUCKY, happened


def test_few_days_on_which_all_happens() -> None:
    first, second, *others = UNLUCKY
    told = [{first}, {first, *others}, {first}, {second}, {second}, set()]
    assert choose(told) == ([1, 3], [])
    assert choose(told[:2]) == ([1], [second])
    assert happened("\n".join(UNLUCKY.values())) == set(UNLUCKY)
    assert happened("nothing") == set()


def test_a_bug_is_found_by_the_smallest_seed() -> None:
    soonest = min(BUGS, key=FOUND_BY.__getitem__)
    assert find(soonest) == FOUND_BY[soonest]


def test_only_the_two_tables_are_written() -> None:
    text = Path(seeds.__file__).read_text()
    assert written(text, dict(FOUND_BY), list(UNLUCKY_DAYS)) == text
    other = written(text, dict.fromkeys(BUGS, 77), [8, 9])
    assert other.count(": 77,\n") == len(BUGS)
    assert "UNLUCKY_DAYS = (8, 9)\n" in other
    assert [line for line in other.splitlines() if line not in text.splitlines() and ": 77," not in line] == [
        "UNLUCKY_DAYS = (8, 9)"
    ]

"""That the simulation sees: each planted bug is found, by its seed and within a thousand."""

from __future__ import annotations

import pytest

from tests.simulation.bugs import BUGS, WITH_A_FILE, planted
from tests.simulation.seeds import DAYS, DAYS_WITH_A_FILE, FOUND_BY
from tests.simulation.simulation import simulate

ENOUGH = 1000


def test_each_bug_has_a_seed_and_says_what_it_breaks() -> None:
    assert list(FOUND_BY) == list(BUGS)
    assert all(bug.__doc__ for bug in BUGS.values())
    assert set(WITH_A_FILE) < set(BUGS)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_by_its_seed(bug: str) -> None:
    seed, persists = FOUND_BY[bug], bug in WITH_A_FILE
    with planted(bug):
        assert simulate(seed, persists=persists).problems
    # The first days are run without it in any case.
    if seed >= (DAYS_WITH_A_FILE if persists else DAYS):
        assert simulate(seed, persists=persists).problems == []


@pytest.mark.long
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_soon(bug: str) -> None:
    with planted(bug):
        seeds = range(100_000, 100_000 + ENOUGH)
        assert any(simulate(seed, persists=bug in WITH_A_FILE).problems for seed in seeds)

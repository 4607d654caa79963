"""Days of listeners: whenever their processes die, each event is handled, in order, and in SQLite once."""

from __future__ import annotations

import pytest

from tests.simulation.bugs_listening import LISTENING_BUGS
from tests.simulation.listening import simulate_listeners

FEW, MANY = range(6), range(500)


@pytest.mark.parametrize("seeds", [FEW, pytest.param(MANY, marks=pytest.mark.long)], ids=len)
def test_whenever_a_process_dies_each_event_is_handled(seeds: range) -> None:
    days = [simulate_listeners(seed) for seed in seeds]
    assert {day.seed: day.problems for day in days if day.problems} == {}
    # They die often enough, and between handler and checkpoint too.
    assert min(day.lives for day in days) > 20
    assert min(day.again for day in days) > 5


def test_a_seed_is_the_same_day_each_time() -> None:
    one, again = simulate_listeners(1), simulate_listeners(1)
    assert one.trace.digest() == again.trace.digest()
    assert (one.lives, one.again) == (again.lives, again.again)


@pytest.mark.parametrize("bug", LISTENING_BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    with LISTENING_BUGS[bug]():
        assert any(simulate_listeners(seed).problems for seed in FEW)

"""Days of a cluster: whoever dies, nothing is lost, doubled or out of order, and it is seen where something is."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from tests.simulation.bugs import planted
from tests.simulation.bugs_clusters import master_not_followed
from tests.simulation.clusters import simulate_cluster

FEW, MANY = range(3), range(100)


@pytest.mark.parametrize("seeds", [FEW, pytest.param(MANY, marks=pytest.mark.long)], ids=len)
def test_whatever_befalls_its_nodes_it_comes_right(seeds: range) -> None:
    days = [simulate_cluster(seed) for seed in seeds]
    assert {day.seed: day.problems for day in days if day.problems} == {}
    luck = sum((Counter(day.luck) for day in days), Counter[str]())
    # The days are unlucky, and yet something gets done in them.
    assert all(luck[kind] >= len(days) // 2 for kind in luck)
    assert min(day.acknowledged for day in days) > 300
    assert max(day.redirects for day in days) > 5


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_a_seed_is_the_same_day_each_time(seed: int) -> None:
    one, again = simulate_cluster(seed), simulate_cluster(seed)
    assert one.trace.digest() == again.trace.digest()
    assert (one.acknowledged, one.luck) == (again.acknowledged, again.luck)


@pytest.mark.parametrize(
    ("plant", "seed"),
    [
        pytest.param(master_not_followed, 0, id="master_not_followed"),
        pytest.param(partial(planted, "any_resent_without_looking"), 0, id="any_resent_without_looking"),
        pytest.param(partial(planted, "doubt_forgotten"), 8, id="doubt_forgotten"),
        pytest.param(partial(planted, "inclusive_after_reconnect"), 0, id="inclusive_after_reconnect"),
    ],
)
def test_a_planted_bug_is_found(plant: object, seed: int) -> None:
    with plant():  # type: ignore[operator]
        assert simulate_cluster(seed).problems
    if seed not in FEW:
        assert simulate_cluster(seed).problems == []

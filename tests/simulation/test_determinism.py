"""That a seed is a day, and the same day each time: in this process, after others, and in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock

from tests.simulation.clusters import simulate_cluster
from tests.simulation.determinism import chance, run_deterministically
from tests.simulation.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FEW, MANY = range(4), range(20)


def test_trio_still_has_what_makes_its_order_repeatable() -> None:
    # Private names, which trio's own plugin for Hypothesis uses. Should they vanish, no seed means anything any more.
    scheduler = trio._core._run
    assert isinstance(scheduler._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert scheduler._r.getstate()


def order_of_tasks(seed: int) -> list[int]:
    order: list[int] = []

    async def step(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(step, number)

    run_deterministically(seed, MockClock(), main)
    return order


def test_the_order_of_tasks_comes_from_the_seed() -> None:
    assert order_of_tasks(1) == order_of_tasks(1)
    assert order_of_tasks(1) != order_of_tasks(2)


def test_trio_is_as_it_was_afterwards() -> None:
    scheduler = trio._core._run
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    order_of_tasks(1)
    assert before == (scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate())


def test_each_kind_of_choice_has_a_source_of_its_own() -> None:
    assert chance(1, "weather").random() == chance(1, "weather").random()
    assert len({chance(1, "weather").random(), chance(2, "weather").random(), chance(1, "plan").random()}) == 3


def test_seeds_are_different_days_and_do_not_depend_on_those_before() -> None:
    digests = [simulate(seed).trace.digest() for seed in (1, 2, 3)]
    assert len(set(digests)) == 3
    assert digests[::-1] == [simulate(seed).trace.digest() for seed in (3, 2, 1)]
    persisted = [simulate(3, persists=True).trace.digest() for _ in range(2)]
    assert persisted[0] == persisted[1] != digests[2]


@pytest.mark.parametrize(
    ("kind", "seeds"),
    [
        pytest.param(simulate, FEW, id="few"),
        pytest.param(simulate, MANY, id="many", marks=pytest.mark.long),
        pytest.param(simulate_cluster, FEW[:2], id="few of a cluster"),
        pytest.param(simulate_cluster, MANY, id="many of a cluster", marks=pytest.mark.long),
    ],
)
def test_two_processes_with_other_hashes_do_the_same(kind: Callable[[int], object], seeds: range) -> None:
    script = (
        f"from {kind.__module__} import {kind.__name__} as day\n"
        f"for seed in {list(seeds)}: print(seed, day(seed).trace.digest())\n"
    )
    command = [sys.executable, "-c", script]
    processes = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hashes}, stdout=subprocess.PIPE)
        for hashes in ("1", "2")
    ]
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert len(outputs[0]) == len(seeds)
    for one, other in pairwise(outputs):
        assert one == other


@pytest.mark.parametrize("seed", FEW[:3])
def test_nothing_in_a_run_comes_from_outside(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Who asks the clock on the wall or the system's chance is found here sooner than by luck.
    def refuse(*_: object) -> object:
        message = "a simulation asks nobody but its seed"
        raise AssertionError(message)

    before = simulate(seed).trace.digest()
    for name in ("os.urandom", "trio.to_thread.run_sync", "socket.socket.connect"):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert simulate(seed).trace.digest() == before

"""A change that makes a path slower is noticed without a clock: an event takes more calls than it may."""

from __future__ import annotations

import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from benchmarks import library
from benchmarks.peer import SHORT
from tests.benchmarks.counting import BUDGETS, PATHS, budget, calls_for, cost_of, peak_memory

if TYPE_CHECKING:
    from benchmarks.cases import Run

TABLE = tomllib.loads(BUDGETS.read_text())

# C functions are counted where the interpreter calls them as the budgets' did.
COUNTS_C = sys.implementation.name == "cpython" and sys.version_info[:2] == (3, 11)

A_REFERENCE = 8
"""Bytes, the least that anything kept of an event takes."""

ONE_BY_ONE = (library.live_events, library.catch_up_events, library.acked_events, library.append_pipelined)
# `listened` follows with room for as much as is usual; `catch_up_events` has room for all that is pushed meanwhile.
LASTING = (library.live_events, library.acked_events, library.listened, library.pages)


def test_each_path_has_a_budget() -> None:
    assert list(TABLE) == list(PATHS)


@pytest.mark.parametrize("name", PATHS)
def test_within_its_budget(name: str) -> None:
    run, events = PATHS[name]
    calls = calls_for(run, events, 3 * events)
    cost = cost_of(calls, 2 * events)
    may = TABLE[name]
    counted = f"{name}: {cost.python:.3f} calls and {cost.c:.3f} of C an event; it may take {may}"
    most = "".join(f"\n{count / events / 2:8.3f} {function}" for function, count in calls.most_common(25))
    again = "python -m tests.benchmarks.counting > /tmp/budgets.toml counts all paths anew"
    assert cost.python <= may["python"], f"{counted}, most of them in{most}\n{again}"
    assert cost.c <= may["c"] or not COUNTS_C, f"{counted}, most of them in{most}\n{again}"
    # What is far below its budget could grow for long before anybody knew.
    assert budget(cost.python) >= 0.85 * may["python"], f"{counted}: tighten the budget. {again}"
    assert budget(cost.c) >= 0.85 * may["c"] or not COUNTS_C, f"{counted}: tighten the budget. {again}"


@pytest.mark.parametrize("run", ONE_BY_ONE, ids=lambda run: run.__name__)
def test_an_event_costs_the_same_among_many(run: Run) -> None:
    few = 100 if run is library.append_pipelined else 500
    first = cost_of(calls_for(run, few, 2 * few), few)
    later = cost_of(calls_for(run, 5 * few, 10 * few), 5 * few)
    assert later == pytest.approx(first, rel=0.02)


def test_an_event_costs_no_more_with_many_subscriptions() -> None:
    """Those of the second subscription, and those of the last of a hundred."""
    first = cost_of(calls_for(library.live_to_many, SHORT, 2 * SHORT), SHORT)
    among = cost_of(calls_for(library.live_to_many, 90 * SHORT, 100 * SHORT), 10 * SHORT)
    assert among == pytest.approx(first, rel=0.02)


@pytest.mark.parametrize("run", LASTING, ids=lambda run: run.__name__)
def test_memory_does_not_grow(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # What was acked is remembered for a while, up to four times as many.
    monkeypatch.setattr(library, "IN_FLIGHT", 50)
    growth = peak_memory(run, 6000) - peak_memory(run, 2000)
    assert growth < 4000 * A_REFERENCE

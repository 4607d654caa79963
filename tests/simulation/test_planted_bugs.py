"""That the simulation sees: each planted bug is found, by its seed and within a thousand."""

from __future__ import annotations

import pytest

from tests.simulation.bugs import BUGS, planted
from tests.simulation.seeds import FOUND_BY
from tests.simulation.simulation import simulate
from trio_extreme.embedded.connection import Connection

ENOUGH = 1000
FOUND_WITH_A_FILE = 26
"""The seed by which a node is found that answers before it commits."""


def test_each_bug_has_a_seed_and_says_what_it_breaks() -> None:
    assert list(FOUND_BY) == list(BUGS)
    assert all(bug.__doc__ for bug in BUGS.values())


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_by_its_seed(bug: str) -> None:
    with planted(bug):
        assert simulate(FOUND_BY[bug]).problems
    assert simulate(FOUND_BY[bug]).problems == []


def test_a_node_that_answers_before_it_commits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def queue(self: Connection, frame: bytes) -> None:
        self._queue.append(frame)
        self._unsent += len(frame)
        self._idle_writer.unpark()

    assert simulate(FOUND_WITH_A_FILE, persists=True).problems == []
    monkeypatch.setattr(Connection, "queue", queue)
    assert simulate(FOUND_WITH_A_FILE, persists=True).problems


@pytest.mark.long
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_soon(bug: str) -> None:
    with planted(bug):
        assert any(simulate(seed).problems for seed in range(100_000, 100_000 + ENOUGH))

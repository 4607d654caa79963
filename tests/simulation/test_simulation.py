"""The days of the first seeds, of some with a node that keeps its log, and of those that ever failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.__main__ import main
from tests.simulation.report import report
from tests.simulation.seeds import DAYS, DAYS_WITH_A_FILE, FAILED, FOUND_BY, UNLUCKY_DAYS
from tests.simulation.simulation import simulate
from tests.simulation.unlucky import UNLUCKY, happened

if TYPE_CHECKING:
    from tests.simulation.simulation import Outcome

CHUNK = 10
BUG = "unbounded_mailbox"


@pytest.mark.parametrize("first", range(0, DAYS, CHUNK))
def test_whatever_breaks_it_comes_right(first: int) -> None:
    for seed in range(first, first + CHUNK):
        must_be_good(simulate(seed))


@pytest.mark.parametrize("first", range(0, DAYS_WITH_A_FILE, CHUNK))
def test_nor_does_it_matter_whether_the_node_keeps_its_log(first: int) -> None:
    for seed in range(first, first + CHUNK):
        must_be_good(simulate(seed, persists=True))


@pytest.mark.parametrize("seed", FAILED)
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    must_be_good(simulate(seed))


def must_be_good(outcome: Outcome) -> None:
    if outcome.problems:
        pytest.fail("\n".join(report(outcome)), pytrace=False)


def test_the_days_are_unlucky_enough() -> None:
    told = "\n".join(simulate(seed).trace.headlines() for seed in UNLUCKY_DAYS)
    assert set(UNLUCKY) - happened(told) == set()


def test_a_failure_shows_its_frames_and_what_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    seed = str(FOUND_BY[BUG])
    assert main(["--seed", seed, "--bug", BUG]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("STREAM_EVENT_APPEARED" in line for line in lines)
    assert any("the memory is not bounded" in line for line in lines)
    assert lines[-1].endswith(f"python -m tests.simulation --seed {seed} --bug {BUG}")


def test_a_good_seed_shows_what_happened_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("seed 1: nothing is wrong")
    assert main(["--seed", "1", "--trace"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 100


def test_many_seeds_are_run_by_several_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "7", "--jobs", "2"]) == 0
    assert capsys.readouterr().out.startswith("7 seeds in ")
    seed = FOUND_BY[BUG]
    assert main(["--minutes", "0", "--at-least", "2", "--first", str(seed), "--bug", BUG]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("python -m tests.simulation --seed ")
    assert lines[-1].startswith("2 seeds in ")

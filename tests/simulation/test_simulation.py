"""The days of the first 150 seeds, of some with a node that keeps its log, and of those that ever failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.__main__ import main
from tests.simulation.report import report
from tests.simulation.seeds import FAILED
from tests.simulation.simulation import simulate

if TYPE_CHECKING:
    from tests.simulation.simulation import Outcome

SEEDS, PERSISTED, CHUNK = 150, 40, 10


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_whatever_breaks_it_comes_right(first: int) -> None:
    for seed in range(first, first + CHUNK):
        must_be_good(simulate(seed))


@pytest.mark.parametrize("first", range(0, PERSISTED, CHUNK))
def test_nor_does_it_matter_whether_the_node_keeps_its_log(first: int) -> None:
    for seed in range(first, first + CHUNK):
        must_be_good(simulate(seed, persists=True))


@pytest.mark.parametrize("seed", FAILED)
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    must_be_good(simulate(seed))


def must_be_good(outcome: Outcome) -> None:
    if outcome.problems:
        pytest.fail("\n".join(report(outcome)), pytrace=False)


#: What has to happen in those days, as the trace tells it.
UNLUCKY = {
    "frames cut apart": "struck: reset",
    "silence": "struck: silence",
    "a stall of the program": "the program stands still",
    "a restart of the node": "fault at",
    "a node that is not ready": "NOT_HANDLED",
    "a subscription that the node ends": "SUBSCRIPTION_DROPPED",
    "a heartbeat of the node": "HEARTBEAT_REQUEST",
    "a connection that is refused": "connecting: refuse",
    "an outcome that nobody knows": "OutcomeUnknown",
    "a call that is out of time": "OperationTimedOut",
    "a wrong version": "WrongExpectedVersion",
    "a transaction": "left without a commit",
    "a cancelled call": "unknown: Cancelled",
    "a stream deleted for ever": "StreamDeleted",
    "a consumer that fell behind": "FellBehind()",
    "one that was told of a gap": "Reconnected(gap_possible=True)",
    "one that missed nothing": "Reconnected(gap_possible=False)",
    "one that was ahead": "AheadOfServer(",
    "one that was too slow": "live_buffer_",
    "one that went on later": "has enough of it",
    "a server that filters": "FILTERED_SUBSCRIBE_TO_STREAM",
    "one that does not": "does not filter",
    "a place between events": "Checkpoint(",
    "a call whose connection was left": "ConnectionClosed",
}


def test_the_days_are_unlucky_enough() -> None:
    missing = dict(UNLUCKY)
    for seed in range(40):
        told = simulate(seed).trace.headlines()
        missing = {name: text for name, text in missing.items() if text not in told}
    assert missing == {}


def test_a_failure_shows_its_frames_and_what_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "0", "--bug", "unbounded_mailbox"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("STREAM_EVENT_APPEARED" in line for line in lines)
    assert any("PROBLEM: A: the memory is not bounded" in line for line in lines)
    assert lines[-1].endswith("python -m tests.simulation --seed 0 --bug unbounded_mailbox")


def test_a_good_seed_shows_what_happened_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("seed 1: nothing is wrong")
    assert main(["--seed", "1", "--trace"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 100


def test_many_seeds_are_run_by_several_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "12", "--jobs", "2"]) == 0
    assert capsys.readouterr().out.startswith("12 seeds in ")
    assert main(["--minutes", "0", "--at-least", "7", "--first", "3", "--bug", "no_second_read"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("python -m tests.simulation --seed ")
    assert lines[-1].startswith("7 seeds in ")

"""The examples do what they say, run as their first lines tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

EXPECTED = {
    "categories": """\
anna is overdrawn at -30
anna is back at 10
account-anna: 10
account-ben: 15
""",
    "first_steps": """\
appended events 0 to 1
forwards:  0 PersonCreated Pera Perić
forwards:  1 PersonRenamed Petar Perić
backwards: 1 PersonRenamed Petar Perić
backwards: 0 PersonCreated Pera Perić
appended again, still events 0 to 1
refused: the stream is at 1, not without events
the last event is still PersonRenamed
""",
    "live_totals": """\
event 0: {'tea': 2}
event 1: {'tea': 2, 'coffee': 1}
event 2: {'tea': 3, 'coffee': 1}
event 3: {'tea': 3, 'coffee': 1, 'water': 4}
event 4: {'tea': 3, 'coffee': 3, 'water': 4}
""",
    "read_model": """\
up to order 2: {'coffee': 1, 'tea': 2}
up to order 4: {'coffee': 1, 'tea': 3, 'water': 1}
""",
    "sse": """\
['id: 0', 'data: "today"', 'id: 1', 'data: "tomorrow"']
['id: 2', 'data: "later"']
nobody is subscribed any more
""",
}
# In these the order depends on which of two tasks is first.
OTHERS = {"account", "follower", "from_extreme", "worker_pool"}


def run_example(name: str) -> str:
    command = [sys.executable, "-X", "utf8", str(EXAMPLES / f"{name}.py")]
    # Our own program, with arguments of our own.
    return subprocess.run(command, check=True, capture_output=True, timeout=30, encoding="utf-8").stdout


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_prints_what_it_should(name: str) -> None:
    assert run_example(name) == EXPECTED[name]


def test_the_account_is_never_overdrawn() -> None:
    *customers, left = run_example("account").splitlines()
    assert sum(line.endswith("got 30") for line in customers) == 3
    assert sum(line.endswith("not enough left") for line in customers) == 2
    assert left == "left: 10"


def test_the_follower_sees_each_event_once_whatever_happens() -> None:
    lines = run_example("follower").splitlines()
    assert lines[:2] == ["nobody has written 'parcel' yet", "all that was stored has been seen"]
    events = [f"event {number}: {type_}" for number, type_ in enumerate(["Sent", "Lost", "Found", "Delivered"])]
    assert [line for line in lines if line.startswith("event")] == events
    assert lines.count("the connection was lost, and is back; nothing was missed") == 1


def test_the_pool_loses_no_job_with_its_workers() -> None:
    *crashes, last = run_example("worker_pool").splitlines()
    told = sorted(line.partition(" crashed ")[2] for line in crashes)
    before = [f"at job {number}, before it was done" for number in (3, 13, 23, 33)]
    after = [f"at job {number}, before it was acked" for number in (7, 17, 27, 37)]
    assert told == sorted(before + after)
    assert last == "40 of 40 jobs are done; twice: [7, 17, 27, 37]"


def test_the_listener_that_was_moved_over_does_what_it_did() -> None:
    lines = run_example("from_extreme").splitlines()
    assert "up to date" in lines
    assert [line for line in lines if line != "up to date"] == [
        "0: Pera is there",
        "paused at 0",
        "1: Pera lives in Niš",
        "0: Pera is there",
        "1: Pera is there",
        "patched up to 1",
    ]


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*EXPECTED, *OTHERS}

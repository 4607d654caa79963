"""A node with a long log: what opening and reading cost does not grow with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.embedded.large import make_file

ROOT = Path(__file__).parents[2]
MB = 1_000_000


def costs(path: Path, events: int) -> dict[str, int]:
    make_file(path, events)
    command = [sys.executable, "-m", "tests.embedded.large", str(path)]
    ran = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    path.unlink()
    told: dict[str, int] = json.loads(ran.stdout)
    assert told["events"] == events
    return told


def check(small: dict[str, int], large: dict[str, int]) -> None:
    # A few pages of the file, and of these as many more as its trees are higher.
    assert large["opening_read"] < small["opening_read"] + 50_000 < 200_000
    assert large["opening_memory"] < small["opening_memory"] + 3 * MB
    # The caches, and what is read at a time.
    assert large["reading_memory"] < 60 * MB


def test_fifty_thousand_events_cost_what_five_thousand_do(tmp_path: Path) -> None:
    check(costs(tmp_path / "small.db", 5_000), costs(tmp_path / "large.db", 50_000))


@pytest.mark.long
def test_a_million_events(tmp_path: Path) -> None:
    check(costs(tmp_path / "small.db", 10_000), costs(tmp_path / "large.db", 1_000_000))

"""A consumer that sleeps for ever behind a million live events disturbs nobody, and costs no more than its bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


@pytest.mark.parametrize("way", ["subscribe", "subscribe_live"])
def test_a_consumer_that_sleeps_for_ever_behind_a_million_live_events(way: str) -> None:
    # In a process of its own, whose memory is only the client's.
    command = [sys.executable, "-m", "tests.soak.sleeper", way]

    figures = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)

    assert figures["events"] >= 1_000_000
    assert figures["memory_growth"] < 64 * MEGABYTE
    assert figures["kept_pace"] == figures["pace"] > 900
    assert figures["heartbeats"] > 10
    # Hundredths of a second, on a machine that has nothing else to do.
    assert max(figures["pace_lag"], figures["longest_heartbeat"], figures["longest_ping"]) < 3
    assert figures["leaving"] < 1
    assert figures["reconnects"] == 0

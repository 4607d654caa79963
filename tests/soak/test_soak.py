"""A short soak. What is asserted is right or wrong on any machine; nothing is said of how fast it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MINUTES = 0.2
"""Of faults; a third as much passes before everybody has caught up twice."""


def test_nothing_is_lost_doubled_out_of_order_or_leaked() -> None:
    # In a process of its own, whose tasks, descriptors and memory are only the client's.
    command = [sys.executable, "-m", "tests.soak", f"--minutes={MINUTES}", "--seed=1", "--json"]

    ran = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE)

    # What went wrong, and when, it told on standard error.
    outcome = json.loads(ran.stdout)
    wrong = {name: count for name, count in outcome["verdict"].items() if name not in ("written", "delivered")}
    assert wrong == {"lost": 0, "doubled": 0, "out_of_order": 0, "strange": 0}
    assert (outcome["leaked_tasks"], outcome["leaked_descriptors"]) == ({}, 0)
    assert (ran.returncode, outcome["faultless"]) == (0, True)
    # It did not pass because nothing happened.
    assert outcome["faults"]["node SIGKILL"] > 0
    assert outcome["reconnects"] > 3
    assert outcome["acknowledged"] > 100
    assert outcome["verdict"]["delivered"] > outcome["verdict"]["written"] > 100

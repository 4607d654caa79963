from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_two_thousand_events_of_a_mebibyte_are_read_within_64_megabytes() -> None:
    command = [sys.executable, "-m", "benchmarks.memory"]
    # Where coverage is measured, what that takes is not ours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}

    ran = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    figures = json.loads(ran.stdout)

    assert figures["peak"] < 64 * MEGABYTE, figures

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_case_runs_and_is_reported(tmp_path: Path) -> None:
    # Says that the benchmarks still run, nothing of how fast: a loaded machine must not fail the tests.
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--json", str(tmp_path / "bench.json")]

    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    results = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert [result["way"] for result in results if result["target"]] == [
        "batches()",
        "async for",
        "caught up, batches()",
        "caught up, async for",
        "batches(), ack(batch)",
        "async for, ack(event)",
        ".pages(), read ahead",
        "async for, read ahead",
        "catching up, batches()",
        "catching up, async for",
        "stored each 1000",
        "100 tasks",
        "append",
    ]
    assert all(result["ratio"] > 0 for result in results)


def test_appends_to_a_file_are_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.persist", "--rounds=1", "--batches=20", f"--folder={tmp_path}"]

    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)

    assert ran.stdout.startswith("bare loop")
    assert ran.stdout.count("appends at a time") == 3
    assert not list(tmp_path.iterdir())


def test_the_node_is_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.node", "--rounds=1", "--events=1000"]

    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)

    assert ran.stdout.count("events/s") == 2

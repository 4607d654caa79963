"""The figures of the documentation, its tables and its picture are of one run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.parsers.expat import ParserCreate

from benchmarks import report
from benchmarks.works import SIDES, SIZES, TARGETS, WORKS

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "benchmarks"


def run(work: str, side: str, seconds: float, **more: Any) -> dict[str, Any]:
    found = {"count": 1000, "memory": 5e7, "seconds": seconds, "server": 0.1}
    return {"work": work, "size": 256, "side": side, **found, **more}


def test_what_is_committed_is_of_one_run() -> None:
    figures = json.loads((COMMITTED / report.NAMES[0]).read_text())
    assert (COMMITTED / report.NAMES[1]).read_text() == report.table(figures)
    assert (COMMITTED / report.NAMES[2]).read_text() == report.picture(figures)


def test_all_of_it_was_measured() -> None:
    results = json.loads((COMMITTED / report.NAMES[0]).read_text())["results"]
    assert not [result for result in results if "failed" in result]
    measured = {(result["work"], result["size"], result["side"]) for result in results}
    assert measured == {(work.name, size, side) for work in WORKS for size in work.counts for side in work.sides}


def test_of_some_rounds_the_slowest_the_median_and_the_fastest() -> None:
    runs = [run("live", "events", seconds, memory=memory) for seconds, memory in ((1.0, 3e7), (4.0, 5e7), (2.0, 4e7))]
    (result,) = report.figures({}, runs)["results"]
    assert result == {
        "work": "live",
        "size": 256,
        "side": "events",
        "count": 1000,
        "rounds": 3,
        "memory": 5e7,
        "per_second": [250, 500, 1000],
        "server": 0.05,
    }


def test_of_pings_the_milliseconds() -> None:
    pings = [each / 1000 for each in range(1, 102)]
    measured = {"work": "pings", "size": 256, "side": "events", "count": 5, "pings": pings, "memory": 1}
    (result,) = report.figures({}, [measured])["results"]
    assert result["milliseconds"] == [51.0, 100.0, 101.0]
    assert "| async for | 51.0 | 100.0 | 101.0 |" in report.table({"environment": {}, "results": [result]})


def test_met_missed_and_not_measured() -> None:
    runs = [
        run("live", "bare", 1.0),
        run("live", "events", 1.25),
        run("live", "photon", 20.0),
        run("live", "lists", 2.0),
    ]
    table = report.table(report.figures({}, runs))
    assert "| live subscription, async for | photon-pump | 12 | 16.00 | met |" in table
    assert "| live subscription, by lists | bare loop | 0.85 | 0.50 | missed |" in table
    assert "| live subscription, async for | node-eventstore-client | 1 | not measured |  |" in table
    assert "| live subscription | 1,000 | 500 (0.50) | 800 (0.80) | 50 (0.05) | not measured |" in table


def test_what_failed_says_so() -> None:
    failed = {"work": "live", "size": 256, "side": "node", "count": 1, "failed": ["closed"]}
    assert "| live subscription | not measured | not measured | not measured | not measured | failed |" in report.table(
        report.figures({}, [failed, run("pages", "bare", 1.0)])
    )


def test_the_picture_is_an_image() -> None:
    figures = report.figures({}, [run("live", "bare", 1.0), run("live", "events", 2.0), run("b1", "node", 2.0)])
    bars: list[str] = []

    def note(name: str, attributes: dict[str, str]) -> None:
        if name == "rect":
            bars.append(attributes["width"])

    parser = ParserCreate()
    parser.StartElementHandler = note
    parser.Parse(report.picture(figures), True)  # noqa: FBT003
    assert len(bars) == len(SIDES) + 3
    assert bars[-3:] == ["480", "240", "480"]


def test_targets_are_of_what_is_measured() -> None:
    names = {work.name: work for work in WORKS}
    for target in TARGETS:
        assert {target.side, target.against} <= set(names[target.work].sides)
        assert SIZES[0] in names[target.work].counts


def test_it_runs(tmp_path: Path) -> None:
    options = ["--quick", "--sizes=256", "--sides=events", "--works", "live", "pings", "b1", f"--out={tmp_path}"]
    command = [sys.executable, "-m", "benchmarks.compare", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures = json.loads((tmp_path / report.NAMES[0]).read_text())
    assert [result["work"] for result in figures["results"]] == ["live", "pings", "b1"]
    assert not [result for result in figures["results"] if "failed" in result]

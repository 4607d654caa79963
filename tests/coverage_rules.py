"""What `nox -s long` wants of the coverage it measured; fails with a list of what is missing.

All branches of levels 0 to 2 are covered, 95 % of the rest; and what is covered in a module is covered mostly by its
own test file: a module that only others' tests run is tested by accident.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import coverage

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
FULLY = {"errors", "values", "notices", "events", "rights", "metadata", "filters", "urls", "settings"}
FULLY |= {"wire", "messages", "operations", "tasks", "transport", "http", "discovery"}
REST_PERCENT = 95
OWN_SHARE = 0.5


def report() -> dict[str, float]:
    """Source file, from the root, to the per cent of its lines and branches that are covered."""
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        measured.json_report(outfile=str(out))
        files = json.loads(out.read_text())["files"]
    return {name: details["summary"]["percent_covered"] for name, details in files.items()}


def own_share(data: coverage.CoverageData, source: Path) -> float:
    """How much of what any test ran of this file its own tests ran; 1 where it is only imported."""
    own = own_tests(source.relative_to(ROOT / "trio_extreme"))
    runs = [{context for context in contexts if context} for contexts in data.contexts_by_lineno(str(source)).values()]
    ran = [contexts for contexts in runs if contexts]
    mine = [contexts for contexts in ran if any(context.startswith(own) for context in contexts)]
    return len(mine) / len(ran) if ran else 1.0


def own_tests(source: Path) -> str:
    """How the test files of a module begin: test_engine.py, test_engine_attempts.py.

    For the command line it is the whole folder, whose tests run commands from outside.
    """
    if source.parts[0] in {"cli", "__main__.py"}:
        return "tests/cli/"
    return (Path("tests") / source.with_name(f"test_{source.stem}")).as_posix()


def shortfalls() -> Iterator[str]:
    data = coverage.CoverageData()
    data.read()
    for name, percent in sorted(report().items()):
        path = Path(name)
        wanted = 100 if path.parts[1].removesuffix(".py") in FULLY else REST_PERCENT
        if percent < wanted:
            yield f"{name}: {percent:.1f} % covered, wanted {wanted} %"
        share = own_share(data, ROOT / path)
        if share < OWN_SHARE:
            yield f"{name}: its own test file runs {share:.0%} of what all tests run"


def main() -> None:
    found = list(shortfalls())
    sys.exit("\n".join(found) or 0)


if __name__ == "__main__":
    main()

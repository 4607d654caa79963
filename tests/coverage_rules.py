"""What `nox -s long` wants of the coverage it measured; fails with a list of what is missing.

All branches of levels 0 to 2 are covered, 95 % of the rest, 90 % of the command line, some of whose processes are
killed before they can say what they ran; and what is covered in a module is covered mostly by its own test file: a
module that only others' tests run is tested by accident.
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
REST_PERCENT, COMMAND_LINE_PERCENT = 95, 90
OWN_SHARE = 0.5

TESTED_BY = {
    "delivering": "test_listeners",
    "details": "test_admin",
    "file_checkpoints": "test_checkpoints",
    "filter_support": "test_filtered",
    "handling": "test_listeners",
    "progress": "test_listeners",
    "sqlite_checkpoints": "test_checkpoints",
    "transport": "test_tls",
    "embedded/accounts": "embedded/test_user_pages",
    "embedded/cluster_commits": "embedded/test_cluster",
    "embedded/cluster_opening": "embedded/test_cluster",
    "embedded/cluster_peer": "embedded/test_cluster",
    "embedded/encoding": "embedded/test_access",
    "embedded/forwarding": "embedded/test_cluster",
    "embedded/gossip": "embedded/test_pages",
    "embedded/groups_consumers": "embedded/test_groups",
    "embedded/groups_records": "embedded/test_groups",
    "embedded/groups_waiting": "embedded/test_groups",
    "embedded/listening": "embedded/test_node",
    "embedded/sqlite_storage": "embedded/test_storage",
    "embedded/sqlite_writer": "embedded/test_commits",
    "embedded/standings": "embedded/test_projections",
    "embedded/states": "embedded/test_pages",
    "operations/administering": "test_admin",
    "testing/checkpoint_kit": "test_checkpoints",
    "testing/opening": "testing/test_",
}
"""Modules that are parts of something with tests of its own: where those are."""


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

    For the command line and telemetry it is the whole folder, whose tests go through all of it.
    """
    if source.parts[0] in {"cli", "__main__.py"}:
        return "tests/cli/"
    if source.parts[0] == "telemetry":
        return "tests/telemetry/"
    if (part := TESTED_BY.get(source.with_suffix("").as_posix())) is not None:
        return f"tests/{part}"
    return (Path("tests") / source.with_name(f"test_{source.stem}")).as_posix()


def shortfalls() -> Iterator[str]:
    data = coverage.CoverageData()
    data.read()
    for name, percent in sorted(report().items()):
        path = Path(name)
        part = path.parts[1].removesuffix(".py")
        wanted = 100 if part in FULLY else COMMAND_LINE_PERCENT if part == "cli" else REST_PERCENT
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

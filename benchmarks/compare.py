"""`python -m benchmarks.compare`: this library beside other clients of the protocol, in one run, interleaved.

All of them talk to the same canned peer, in a process of its own, whose work is shown; the benchmarks that Extreme has
talk to an embedded node. Each measurement is a process of its own too, so that its memory is its own, and in each round
every client does every work, so that a slow spell of the machine meets all. Other clients are looked for under
`build/peers`, where `nox -s compare` installs them; one that is not there has no figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.internal import api_implementation

from benchmarks import report
from benchmarks.peer import running
from benchmarks.works import PUSHED, SIDES, SIZES, WORKS, Work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "build" / "peers"
FIGURES = ROOT / "docs" / "benchmarks"
_HERE = Path(__file__).parent / "sides"
_PHOTON = PEERS / "photon" / "bin" / "python"
_NODE_MODULES = PEERS / "node" / "node_modules"
_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 300
"""Seconds for one measurement."""


def commands() -> dict[str, list[str]]:
    """How to call each client that can be had."""
    own = [sys.executable, "-m", "benchmarks.sides.ours"]
    found = {side: [*own, side] for side in ("bare", "lists", "events")}
    if _PHOTON.exists():
        found["photon"] = [str(_PHOTON), str(_HERE / "photon.py")]
    if _NODE_MODULES.exists():
        found["node"] = ["node", str(_HERE / "node.js")]
    return found


class Servers:
    """The processes that are talked to, each started when it is first needed."""

    def __init__(self, divisor: int) -> None:
        self._divisor = divisor
        self._stack = ExitStack()
        self._running: dict[tuple[str, int], tuple[int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def find(self, work: Work, size: int) -> tuple[int, int]:
        """Port and process."""
        key = work.server, size
        if key not in self._running:
            self._running[key] = self._stack.enter_context(running(*self._command(work, size)))
        return self._running[key]

    def _command(self, work: Work, size: int) -> Sequence[str]:
        if work.server == "node":
            return ("benchmarks.serving",)
        events, only = (PUSHED[size], []) if work.server == "peer" else (work.counts[size], ["--only-stored"])
        return "benchmarks.peer", f"--events={events // self._divisor}", f"--size={size}", *only


def measure(
    works: Sequence[Work], sides: Sequence[str], sizes: Sequence[int], *, rounds: int, divisor: int
) -> Iterator[dict[str, Any]]:
    """One measurement after another."""
    calls = commands()
    with Servers(divisor) as servers:
        for round_ in range(rounds):
            for size, work in [(size, work) for size in sizes for work in works if size in work.counts]:
                for side in [side for side in work.sides if side in sides and side in calls]:
                    count = work.counts[size] // divisor
                    found = _run(calls[side], work, servers.find(work, size), count, size)
                    print(f"round {round_ + 1}: {work.name}, {size} bytes, {side}: {_told(found)}", file=sys.stderr)
                    yield {"work": work.name, "size": size, "side": side, "count": count, **found}


def _run(call: Sequence[str], work: Work, server: tuple[int, int], count: int, size: int) -> dict[str, Any]:
    port, process = server
    environment = os.environ | {"BENCHMARK_EVENT_SIZE": str(size), "NODE_PATH": str(_NODE_MODULES)}
    command = [*call, work.name, str(port), str(count), str(size)]
    before = _processor_seconds(process)
    ran = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    if ran.returncode or not ran.stdout.strip():
        return {"failed": (ran.stderr or ran.stdout).strip().splitlines()[-1:]}
    found: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return {**found, "server": round(_processor_seconds(process) - before, 3)}


def _told(found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"failed: {found['failed']}"
    return f"{found['seconds']:.3f} s" if "seconds" in found else f"{len(found['pings'])} pings"


def _processor_seconds(process: int) -> float:
    """What a process has used of the processor, where Linux tells."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def environment() -> dict[str, str]:
    """The machine, and the versions of what was measured."""
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {platform.system()}",
        "trio_extreme": f"Python {platform.python_version()}, trio {version('trio')}, "
        f"protobuf {version('protobuf')} ({api_implementation.Type()})",
    }
    if _PHOTON.exists():
        program = (
            "import platform, google.protobuf as p; from google.protobuf.internal import api_implementation as a; "
            "print(f'photon-pump 0.9.5, Python {platform.python_version()}, protobuf {p.__version__} ({a.Type()})')"
        )
        found["photon"] = _output([str(_PHOTON), "-c", program])
    if _NODE_MODULES.exists():
        package = json.loads((_NODE_MODULES / "node-eventstore-client" / "package.json").read_text())
        found["node"] = f"node-eventstore-client {package['version']}, Node.js {_output(['node', '--version'])}"
    return found


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _main() -> None:
    names = [work.name for work in WORKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default %(default)s)")
    parser.add_argument("--works", nargs="*", choices=names, default=names)
    parser.add_argument("--sides", nargs="*", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--sizes", nargs="*", type=int, choices=SIZES, default=SIZES)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the work, once: does it run at all")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"where to write (docs: {FIGURES})")
    parser.add_argument("--docs", action="store_true", help="write the figures of the documentation")
    arguments = parser.parse_args()
    works = [work for work in WORKS if work.name in arguments.works]
    rounds, divisor = (1, 50) if arguments.quick else (arguments.rounds, 1)
    runs = list(measure(works, arguments.sides, arguments.sizes, rounds=rounds, divisor=divisor))
    figures = report.figures(environment(), runs)
    print(report.table(figures))
    folder = FIGURES if arguments.docs else arguments.out
    if folder:
        report.write(figures, folder)


if __name__ == "__main__":
    _main()

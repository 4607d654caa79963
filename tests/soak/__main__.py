"""`python -m tests.soak`: a client over real sockets, while its node and the network between break again and again.

Exits with 1 where anything was lost, doubled, out of order, strange or leaked.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from random import SystemRandom
from typing import TYPE_CHECKING

import trio

from tests.soak.node import LONGEST, RATE
from tests.soak.soak import Outcome, Plan, run_soak

if TYPE_CHECKING:
    from collections.abc import Sequence

_MEGABYTE = 1_000_000


def _rows(outcome: Outcome) -> list[tuple[str, object]]:
    verdict = outcome.verdict
    return [
        ("seed", outcome.plan.seed),
        ("events in the store", f"{verdict.written:,}"),
        ("  acknowledged", f"{outcome.acknowledged:,}"),
        ("  in doubt, there or not", f"{outcome.doubtful:,}"),
        ("events delivered", f"{verdict.delivered:,}"),
        ("faults", f"{sum(outcome.faults.values()):,}"),
        ("reconnects", f"{outcome.reconnects:,}"),
        ("caught up again after", f"{outcome.caught_up_after:.1f} s"),
        ("longest ping", f"{outcome.longest_ping:.1f} s"),
        ("told", _counts(outcome.told)),
        ("lost", verdict.lost),
        ("doubled", verdict.doubled),
        ("out of order", verdict.out_of_order),
        ("strange", verdict.strange),
        ("leaked tasks", _counts(outcome.leaked_tasks) or 0),
        ("leaked descriptors", outcome.leaked_descriptors),
        ("objects per reconnect", f"{outcome.objects_per_reconnect:.2f}"),
        ("peak memory", f"{outcome.peak_memory / _MEGABYTE:.0f} MB"),
        ("memory growth", f"{outcome.memory_growth / _MEGABYTE:.1f} MB"),
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _set_up_logging(*, verbose: bool) -> None:
    """Each attempt to connect that fails is logged as a warning: here that is the rule."""
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s.%(msecs)03d %(message)s", datefmt="%H:%M:%S")


def _main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, help="of the faults and of the load; by default a new one")
    parser.add_argument("--version", default="4.1.1", help="the server that the node is (default %(default)s)")
    parser.add_argument("--rate", type=float, default=RATE, help="faults a second, of network and node each")
    parser.add_argument("--longest", type=float, default=LONGEST, help="seconds a fault lasts at most")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON, the table on standard error")
    parser.add_argument("--verbose", action="store_true", help="tell each fault and each attempt on standard error")
    parsed = parser.parse_args(arguments)
    _set_up_logging(verbose=parsed.verbose)
    seed = SystemRandom().getrandbits(32) if parsed.seed is None else parsed.seed
    plan = Plan(seed, parsed.minutes * 60, parsed.version, parsed.rate, parsed.longest, parsed.verbose)
    outcome = trio.run(run_soak, plan)
    table = "\n".join(f"{name:26}{value!s:>14}" for name, value in _rows(outcome))
    print(table, file=sys.stderr if parsed.json else sys.stdout)
    if parsed.json:
        print(json.dumps(outcome.to_json(), indent=2))  # noqa: T201 - as above
    return 0 if outcome.faultless else 1


if __name__ == "__main__":
    sys.exit(_main())

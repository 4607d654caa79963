"""What is shown of a seed that failed: what is wrong, the frames around it, and the command that repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.clusters import ClusterOutcome
    from tests.simulation.listening import ListeningOutcome
    from tests.simulation.simulation import Outcome

_BEFORE, _AFTER = 300, 30
"""Lines of the trace shown before the first problem and after it."""
_LONGEST = 240
"""Characters of a line."""


def command(seed: int, bug: str = "", *, kind: str = "") -> str:
    """What repeats a run, of days of this kind."""
    options = (f" --{kind}" if kind else "") + (f" --bug {bug}" if bug else "")
    return f"python -m tests.simulation --seed {seed}{options}"


def report(
    outcome: Outcome | ClusterOutcome | ListeningOutcome, bug: str = "", *, whole: bool = False
) -> Iterator[str]:
    """The lines of a report; `whole` has all of the trace."""
    trace = outcome.trace
    middle = len(trace) if trace.first_problem_at is None else trace.first_problem_at
    start, end = (0, len(trace)) if whole else (max(0, middle - _BEFORE), middle + _AFTER)
    if whole or outcome.problems:
        yield from (line[:_LONGEST] for line in trace.lines(start, end))
    yield from (f"PROBLEM: {problem}" for problem in outcome.problems)
    found = f"{len(outcome.problems)} problems" if outcome.problems else "nothing is wrong"
    again = command(outcome.seed, bug, kind=outcome.kind)
    yield f"seed {outcome.seed}: {found}; {len(trace)} entries, {trace.digest()[:16]}; {again}"

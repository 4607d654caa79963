"""Masters die one after another under load. How long that takes is told, and not asserted."""

from __future__ import annotations

import pytest

from tests.soak.failover import run_failovers


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.long)])
async def test_nobody_notices_but_by_waiting(kills: int) -> None:
    outcome = await run_failovers(kills, seed=kills)
    print(outcome)  # noqa: T201 - for the record, and for who wonders why it failed
    verdict = outcome.verdict
    assert verdict is not None
    assert verdict.faultless
    # By a consumer of its stream and by one of the log, each once.
    assert verdict.delivered == 2 * verdict.written
    assert verdict.written >= outcome.acknowledged > 10 * kills
    assert len(outcome.times) == kills

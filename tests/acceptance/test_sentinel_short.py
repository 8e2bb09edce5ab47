"""The failover test in short: ``python -m benchmarks.chaos.sentinel`` has the long one."""

from __future__ import annotations

import pytest

from benchmarks.chaos.sentinel.failover import Trial


@pytest.mark.long
async def test_failovers_under_load_lose_nothing() -> None:
    """Everything that was answered with 202 has a result after its master was killed, twice."""
    trial = Trial(replicas=1, tell=print)
    found = await trial.run(rounds=2)
    assert not found.faults, (found, trial.logs)
    assert found.accepted > 0
    # How soon is reported by the long form: here a busy machine would decide over it.
    assert all(one.api_back_s is not None for one in found.rounds)

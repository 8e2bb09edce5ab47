"""A small chaos test (``make chaos``): real processes, every kind of fault, one seed."""

from __future__ import annotations

import pytest

from benchmarks.chaos.records import FaultKind
from benchmarks.chaos.run import ChaosRun, Options, RunProgress

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

KILLS = 25


async def test_a_small_chaos_run_loses_nothing() -> None:
    """25 SIGKILLs among other faults: nothing lost, early, stuck, left or unexplained."""
    seen: list[RunProgress] = []
    chaos_run = ChaosRun(
        Options("crucible", seconds=14.0, kills=KILLS, seed=20, rate=16.0, programs=10), seen.append
    )
    verdict = await chaos_run.run()
    assert not verdict.failures, verdict
    assert verdict.faults[FaultKind.KILL] == KILLS
    assert verdict.accepted > 100
    assert verdict.executions > verdict.accepted, "no kill hit anything that ran"
    assert verdict.events_due
    assert {"program, container", "program, nested"} <= verdict.works.keys()
    assert {progress.phase for progress in seen} >= {"faults", "settling"}

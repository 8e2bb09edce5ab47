"""The battle of ``make chaos``, small: real processes, every kind of fault, one seed."""

from __future__ import annotations

import pytest

from benchmarks.chaos.battle import Battle, Order, Standing
from benchmarks.chaos.records import FaultKind

pytestmark = pytest.mark.timeout(180)

KILLS = 25


async def test_a_small_battle_loses_nothing() -> None:
    """25 SIGKILLs among other faults: nothing lost, early, stuck or leaked, no riddle left."""
    seen: list[Standing] = []
    battle = Battle(Order("crucible", seconds=14.0, kills=KILLS, seed=20, rate=16.0), seen.append)
    verdict = await battle.fight()
    assert not verdict.failures, verdict
    assert verdict.faults[FaultKind.KILL] == KILLS
    assert verdict.accepted > 100
    assert verdict.executions > verdict.accepted, "no kill hit anything that ran"
    assert verdict.events_due
    assert {standing.phase for standing in seen} >= {"storm", "settling"}

"""The short form of the outage matrix: real processes, long tasks that run meanwhile."""

from __future__ import annotations

import pytest

from benchmarks.chaos.outages.cells import SHORT, Cell
from benchmarks.chaos.outages.matrix import run
from benchmarks.chaos.outages.verdict import Verdict

pytestmark = pytest.mark.timeout(300)


async def test_an_outage_loses_nothing_and_runs_nothing_twice() -> None:
    """Longer than a heartbeat lasts, in several ways: what ran is neither lost nor run again."""
    phases: dict[str, list[str]] = {cell.name: [] for cell in SHORT}

    def tell(cell: Cell, phase: str, verdict: Verdict | None) -> None:
        phases[cell.name].append(phase)

    verdicts = await run(SHORT, 3, tell)
    assert {verdict.cell: verdict.faults for verdict in verdicts if verdict.faults} == {}
    for verdict in verdicts:
        assert verdict.running > 0, verdict
        assert phases[verdict.cell][-4:] == ["away", "back", "settling", "over"]

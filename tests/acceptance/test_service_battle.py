"""The short form of the battle with everything on (``python -m benchmarks.chaos.service``)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks.chaos.service.battle import Battle

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

KILLS = 10


async def test_every_record_agrees_after_every_process_was_killed() -> None:
    """Each process is killed once under keys, batches, tests, assessments, hooks and cancels."""
    phases: list[str] = []
    # PostgreSQL is run by a user of its own, who has to pass; pytest's folders are closed to it.
    with tempfile.TemporaryDirectory(prefix="crucible-all-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        verdict = await Battle(directory, 20, phases.append, stock=False).run(10.0, KILLS, 0.8)
    assert verdict.faults == []
    assert len(verdict.kills) == KILLS == verdict.killed
    kinds = {"plain", "graded", "batch", "assessment", "run", "cancelled"}
    assert kinds <= verdict.kinds.keys(), verdict.kinds
    assert verdict.deliveries
    assert phases == ["starting", "faults", "settling"]

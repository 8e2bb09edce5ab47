"""Full and slow disks under the load of the battle, in short: ``make chaos`` has the long form."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks.chaos.disk import possible
from benchmarks.chaos.service.battle import Battle

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

FULL = ("queue disk full", "objects disk full", "history disk full")
SLOW = ("queue disk slow", "history disk slow")


async def test_full_and_slow_disks_lose_nothing_and_need_no_restart() -> None:
    """Objects, a SQLite history and the append-only file of the queue server, one after another."""
    assert possible(), "this takes root and loop devices"
    faults = (*FULL, *SLOW)
    with tempfile.TemporaryDirectory(prefix="crucible-all-") as name:
        battle = Battle(Path(name), 3, print, stock=False, own_disks=True, sqlite=True, only=faults)
        verdict = await battle.run(5.0, len(faults), 0.5)
    assert verdict.faults == []
    assert verdict.kills == dict.fromkeys(faults, 1)
    assert verdict.noticed == len(FULL), {part.name: part.log for part in battle.parts}
    assert verdict.kinds["large"]

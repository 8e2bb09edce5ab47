"""Disks, links and clocks under the load of the battle; ``make chaos`` has the long form."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks.chaos.disk import possible
from benchmarks.chaos.network.hosts import possible as network_possible
from benchmarks.chaos.service.battle import Battle

pytestmark = [pytest.mark.docker, pytest.mark.timeout(500)]

FULL = ("queue disk full", "objects disk full", "history disk full")
SLOW = ("queue disk slow", "history disk slow")
#: A worker that is cut off for longer than its heartbeat lasts, and clocks that jump by minutes.
APART = ("worker 1 cut off", "worker 2 clock ahead", "api clock behind")


async def test_outages_of_disks_links_and_clocks_lose_nothing_and_need_no_restart() -> None:
    """Append-only file, objects, a SQLite history; partition; jumps: one service, one by one."""
    assert possible(), "this takes root and loop devices"
    assert network_possible(), "this takes root, ip and iptables"
    outages = (*FULL, *SLOW, *APART)
    with tempfile.TemporaryDirectory(prefix="crucible-all-") as name:
        battle = Battle(
            Path(name),
            3,
            print,
            stock=False,
            own_disks=True,
            sqlite=True,
            apart=True,
            only=outages,
        )
        verdict = await battle.run(5.0, 0, 0.5, len(outages))
    logs = {part.name: part.log for part in battle.parts}
    assert verdict.faults == [], logs
    assert verdict.outages == dict.fromkeys(outages, 1)
    assert verdict.noticed == len(FULL), logs
    assert verdict.kinds["large"]

"""Sandboxes and lanes by state: as a worker's heartbeat carries them, and added up. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.executor.nested.policy import LaneCounts
from crucible.executor.pool_policy import PoolCounts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crucible.broker.claiming.liveness import Heartbeat

#: Begins the names of lanes' states, some of which sandboxes have as well.
LANE = "lanes "


def gauges_of(counts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The gauges of a worker, by what its executor has (``executor.pool_of``)."""
    lanes = {f"{LANE}{state}": number for state, number in counts.get("nested", {}).items()}
    return {**counts.get("container", {}), **lanes}


def sandboxes_of(heartbeats: Sequence[Heartbeat]) -> dict[str, int]:
    """The sandboxes of all workers by state, and the programs that wait for one."""
    # Anybody may write a heartbeat; a label of a metric has few values.
    return {name: _sum(name, heartbeats) for name in PoolCounts.__struct_fields__}


def lanes_of(heartbeats: Sequence[Heartbeat]) -> dict[str, int]:
    """The lanes of all workers by state, and the programs that wait for one."""
    return {name: _sum(f"{LANE}{name}", heartbeats) for name in LaneCounts.__struct_fields__}


def _sum(name: str, heartbeats: Sequence[Heartbeat]) -> int:
    return sum(beat.gauges.get(name, 0) for beat in heartbeats)

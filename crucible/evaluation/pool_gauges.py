"""What the executors of all workers have, added up from the workers' heartbeats. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.executor.compile_cache import CACHE_BYTES
from crucible.executor.nested.policy import LANE, LaneCounts
from crucible.executor.pool_policy import PoolCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.claiming.liveness import Heartbeat


def sandboxes_of(heartbeats: Sequence[Heartbeat]) -> dict[str, int]:
    """The sandboxes of all workers by state, and the programs that wait for one."""
    # Anybody may write a heartbeat; a label of a metric has few values.
    return {name: _sum(name, heartbeats) for name in PoolCounts.__struct_fields__}


def lanes_of(heartbeats: Sequence[Heartbeat]) -> dict[str, int]:
    """The lanes of all workers by state, and the programs that wait for one."""
    return {name: _sum(f"{LANE}{name}", heartbeats) for name in LaneCounts.__struct_fields__}


def compile_cache_bytes_of(heartbeats: Sequence[Heartbeat]) -> int:
    """Bytes of compiled programs that all workers keep."""
    return _sum(CACHE_BYTES, heartbeats)


def _sum(name: str, heartbeats: Sequence[Heartbeat]) -> int:
    return sum(beat.gauges.get(name, 0) for beat in heartbeats)

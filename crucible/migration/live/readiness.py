"""Readiness where there is a legacy queue: which side must work depends on the mode."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from crucible.breaker import BreakerState, Circuit, worst
from crucible.errors import LegacyError
from crucible.evaluation.readiness import PROBE_S, Dependency, states_of
from crucible.migration.routing import Mode

if TYPE_CHECKING:
    from crucible.evaluation.readiness import Report
    from crucible.legacy import QueueStats
    from crucible.migration.live.service import RoutedService

#: Seconds without a question for a task after which no legacy worker is there.
IDLE_S = 30.0


async def with_legacy(report: Report, service: RoutedService) -> Report:
    """The report of the Celery side, completed by mode, legacy queue and circuits."""
    stats = await _stats(service)
    legacy = stats if isinstance(stats, Dependency) else _legacy_of(stats)
    mode = service.watch.switches.mode
    celery_ok = report.ready
    ready = {
        Mode.LEGACY_ONLY: legacy.ok,
        Mode.DUAL_WRITE: legacy.ok,
        Mode.SPLIT: legacy.ok and celery_ok,
    }.get(mode, celery_ok or legacy.ok)
    return msgspec.structs.replace(
        report,
        ready=ready,
        status="ready" if ready else "unavailable",
        mode=mode.value,
        celery="disabled" if mode is Mode.LEGACY_ONLY else "enabled",
        legacy="standby" if mode is Mode.CELERY_PRIMARY else "enabled",
        dependencies={**report.dependencies, "legacy": legacy},
        circuits=_circuits(report, service, stats),
    )


def _circuits(
    report: Report, service: RoutedService, stats: QueueStats | Dependency
) -> dict[str, str]:
    """This process's circuits, and those of both sides' workers."""
    of_legacy = {} if isinstance(stats, Dependency) else stats.circuits
    of_celery = {name: Circuit(BreakerState(state)) for name, state in report.circuits.items()}
    own = {breaker.name: breaker.circuit for breaker in service.breakers}
    return states_of(worst([own, of_celery, of_legacy]))


async def _stats(service: RoutedService) -> QueueStats | Dependency:
    """What the legacy queue tells, or why it does not."""
    try:
        async with asyncio.timeout(PROBE_S):
            return await service.legacy.stats()
    except (LegacyError, TimeoutError) as error:
        return Dependency(ok=False, detail=str(error) or "no answer in time")


def _legacy_of(stats: QueueStats) -> Dependency:
    if stats.draining:
        return Dependency(ok=True, detail="draining")
    idle_s = stats.idle_poll_s
    # A worker in the middle of a long program asks for nothing either.
    if not stats.running and (idle_s is None or idle_s > IDLE_S):
        return Dependency(ok=True, detail="no worker asks for tasks")
    return Dependency(ok=True)

"""Readiness where there is a legacy queue: the mode decides which queue system has to work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from crucible.breaker import BreakerState, Circuit, worst
from crucible.errors import LegacyError, LegacyUnavailable
from crucible.evaluation.readiness import PROBE_S, Dependency, states_of, status_of
from crucible.migration.routing import Mode

if TYPE_CHECKING:
    from crucible.evaluation.readiness import Report
    from crucible.legacy import LegacyClient, QueueStats
    from crucible.migration.live.migration import Migration

#: Seconds without a worker asking for a task, after which there seems to be no worker.
IDLE_S = 30.0
_NO_WORKER = "no worker asks for tasks"


async def with_legacy(report: Report, migration: Migration) -> Report:
    """The report on Celery queues, completed with the mode, the legacy queue and its circuits."""
    stats = await _stats(migration.legacy)
    legacy = stats if isinstance(stats, Dependency) else _dependency_of(stats)
    mode = migration.watch.switches.mode
    celery_ok, celery_served = report.ready, report.dependencies["workers"].ok
    legacy_served = legacy.ok and legacy.detail != _NO_WORKER
    served = {
        Mode.LEGACY_ONLY: legacy_served,
        Mode.DUAL_WRITE: legacy_served,
        Mode.SPLIT: legacy_served and celery_served,
    }.get(mode, celery_served if celery_ok else legacy_served)
    ready = {
        Mode.LEGACY_ONLY: legacy.ok,
        Mode.DUAL_WRITE: legacy.ok,
        Mode.SPLIT: legacy.ok and celery_ok,
    }.get(mode, celery_ok or legacy.ok)
    return msgspec.structs.replace(
        report,
        ready=ready,
        status=status_of(ready=ready, served=served),
        mode=mode.value,
        celery="disabled" if mode is Mode.LEGACY_ONLY else "enabled",
        legacy="standby" if mode is Mode.CELERY_PRIMARY else "enabled",
        dependencies={**report.dependencies, "legacy": legacy},
        circuits=_circuits(report, migration, stats),
    )


def _circuits(
    report: Report, migration: Migration, stats: QueueStats | Dependency
) -> dict[str, str]:
    """This process's circuits, and those of the workers of both queue systems."""
    of_legacy = {} if isinstance(stats, Dependency) else stats.circuits
    of_celery = {name: Circuit(BreakerState(state)) for name, state in report.circuits.items()}
    return states_of(worst([migration.circuits(), of_celery, of_legacy]))


async def _stats(legacy: LegacyClient) -> QueueStats | Dependency:
    """What the legacy queue reports, or why it does not."""
    try:
        return await legacy_stats(legacy)
    except LegacyError as error:
        return Dependency(ok=False, detail=str(error))


async def legacy_stats(legacy: LegacyClient) -> QueueStats:
    """The legacy queue's stats, for a probe.

    Raises:
        LegacyError: it does not answer within ``PROBE_S``.
    """
    try:
        async with asyncio.timeout(PROBE_S):
            return await legacy.stats()
    except TimeoutError:
        raise LegacyUnavailable("no answer in time") from None


def _dependency_of(stats: QueueStats) -> Dependency:
    if stats.draining:
        return Dependency(ok=True, detail="draining")
    idle_s = stats.idle_poll_s
    # A worker that runs a long program asks for no task either.
    if not stats.running and (idle_s is None or idle_s > IDLE_S):
        return Dependency(ok=True, detail=_NO_WORKER)
    return Dependency(ok=True)

"""``/metrics`` for Prometheus."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from crucible.api.app_keys import (
    ADMIN,
    EVENT_HUB,
    EVENT_WRITER,
    HISTORY,
    METER,
    MIGRATION,
    READINESS,
)
from crucible.breaker import worst
from crucible.errors import BrokerError, LegacyError
from crucible.evaluation.readiness import PROBE_S, circuits_of, sandboxes_of, workers_of
from crucible.http.guard import GUARD, Fault
from crucible.migration.legacy_results import LEGACY_QUEUE
from crucible.migration.live.readiness import legacy_stats
from crucible.settings import KNOWN_QUEUES
from crucible.telemetry.scrape import (
    CONTENT_TYPE,
    Connections,
    Events,
    History,
    Measured,
    exposition,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.breaker import Circuit
    from crucible.broker.admin.census import Census
    from crucible.broker.admin.operator import Admin
    from crucible.broker.claiming.liveness import Heartbeat
    from crucible.evaluation.readiness import Readiness
    from crucible.history.state import HistorianState
    from crucible.http.guard import ConnectionGuard
    from crucible.migration.live.migration import Migration

#: Messages waiting, by queue system and queue.
Depths = dict[tuple[str, str], int]


async def show(request: web.Request) -> web.Response:
    """``GET /metrics``: what this process counted, and what can be measured now."""
    measured = await _measure(request.app)
    return web.Response(
        body=exposition(request.app[METER].registry, measured),
        headers={"Content-Type": CONTENT_TYPE},
    )


async def _measure(app: web.Application) -> Measured:
    readiness, migration = app[READINESS], app.get(MIGRATION)
    # All at once: a server that hangs delays each of them by its deadline.
    completions, processes, memory_full, census, legacy = await asyncio.gather(
        readiness.completions(),
        _processes(readiness),
        readiness.memory_full(),
        _census(app[ADMIN]),
        _legacy(migration),
    )
    heartbeats, listening, historians = processes
    circuits = [beat.circuits for beat in heartbeats] + list(map(circuits_of, historians))
    history = app.get(HISTORY)
    if history is not None:
        circuits.append({history.breaker.name: history.breaker.circuit})
    copies = None
    if migration is not None:
        circuits += [legacy[1], migration.circuits()]
        copies = migration.shadow.totals
    return Measured(
        connections=_connections(app[GUARD]),
        depths={**_depths_of(census), **legacy[0]},
        claimed=None if census is None else census.claimed,
        dead_letters=None if census is None else census.dead_letters,
        workers=workers_of(heartbeats, listening),
        sandboxes=sandboxes_of(heartbeats),
        completions=completions,
        circuits=worst(circuits),
        memory_full=memory_full,
        copies=copies,
        events=_events(app),
        history=_history(historians) if history is not None else None,
    )


def _events(app: web.Application) -> Events | None:
    writer, hub = app.get(EVENT_WRITER), app.get(EVENT_HUB)
    if writer is None or hub is None:
        return None
    return Events(
        written=writer.written,
        dropped=writer.dropped,
        waiting=writer.waiting,
        write_lag_s=writer.lag_s,
        streams=hub.clients,
        cut=hub.totals,
        follow_lag_s=hub.lag_s,
    )


async def _processes(
    readiness: Readiness,
) -> tuple[list[Heartbeat], int | None, list[HistorianState]]:
    """Heartbeats of workers, how many listen, and the historians."""
    return await asyncio.gather(
        readiness.heartbeats(), readiness.listening(), readiness.historians()
    )


def _history(historians: Sequence[HistorianState]) -> History:
    return History(
        historians=len(historians),
        lag_s=max((one.lag_s for one in historians), default=None),
        written=sum(one.written for one in historians),
        refused=sum(one.refused for one in historians),
        gaps=sum(one.gaps for one in historians),
    )


async def _census(admin: Admin) -> Census | None:
    """What the Celery queues hold; None where it cannot be read, since zero would be false."""
    try:
        async with asyncio.timeout(PROBE_S):
            return await admin.census(KNOWN_QUEUES)
    except (BrokerError, TimeoutError):
        return None


def _depths_of(census: Census | None) -> Depths:
    queues = census.queues if census is not None else []
    return {("celery", queue.name): queue.waiting for queue in queues}


def _connections(guard: ConnectionGuard) -> Connections:
    faults = {fault.value: guard.faults[fault] for fault in Fault}
    return Connections(open=len(guard), held_bytes=guard.held_bytes, faults=faults)


async def _legacy(migration: Migration | None) -> tuple[Depths, dict[str, Circuit]]:
    """Depth of the legacy queue and circuits of its workers; empty where they cannot be read."""
    if migration is None:
        return {}, {}
    try:
        stats = await legacy_stats(migration.legacy)
    except LegacyError:
        return {}, {}
    return {("legacy", LEGACY_QUEUE): stats.queued}, stats.circuits

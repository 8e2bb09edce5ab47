"""``/metrics`` for Prometheus."""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from crucible.api.app_keys import (
    ADMIN,
    EVENT_HUB,
    EVENT_WRITER,
    HISTORY,
    METER,
    MIGRATION,
    OBJECTS,
    READINESS,
    SHARED_METRICS,
)
from crucible.api.autoscale import decide
from crucible.breaker import worst
from crucible.errors import BrokerError, LegacyError
from crucible.evaluation.fleet_load import load_of
from crucible.evaluation.pool_gauges import compile_cache_bytes_of, lanes_of, sandboxes_of
from crucible.evaluation.readiness import PROBE_S, circuits_of, workers_of
from crucible.http.guard import GUARD, Fault
from crucible.migration.legacy_results import LEGACY_QUEUE
from crucible.migration.live.readiness import legacy_stats
from crucible.settings import KNOWN_QUEUES
from crucible.telemetry.fleet import Fleet
from crucible.telemetry.scrape import (
    CONTENT_TYPE,
    Connections,
    Events,
    History,
    Measured,
    exposition,
    process_metrics,
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

#: Downstreams of circuits that are shown: anybody may write a heartbeat, and a label of a metric
#: has few values.
_CIRCUITS = 100
log = logging.getLogger(__name__)

#: Seconds between two writes; what a process counted after its last one is lost if it is killed.
SHARE_S = 1.0
#: Messages waiting, by queue system and queue.
Depths = dict[tuple[str, str], int]


async def show(request: web.Request) -> web.Response:
    """``GET /metrics``: what this process counted, and what can be measured now."""
    measured = await _measure(request.app)
    return web.Response(
        body=exposition(request.app[METER].registry, measured, request.app.get(SHARED_METRICS)),
        headers={"Content-Type": CONTENT_TYPE},
    )


async def share(app: web.Application) -> None:
    """Keep what this process counts where the others of its port find it, now and then."""
    while True:
        shared = app[SHARED_METRICS]
        try:
            shared.write(_own(app))
        except OSError as error:
            log.warning("the metrics of this process cannot be shared: %s", error)
        await asyncio.sleep(SHARE_S)


def _own(app: web.Application) -> list[Any]:
    migration = app.get(MIGRATION)
    copies = None if migration is None else migration.shadow.totals
    return process_metrics(app[METER].registry, _connections(app[GUARD]), copies)


async def _measure(app: web.Application) -> Measured:
    readiness, migration = app[READINESS], app.get(MIGRATION)
    # All at once: a server that hangs delays each of them by its deadline.
    completions, processes, memory_full, waiting, legacy = await asyncio.gather(
        readiness.completions(),
        _processes(readiness),
        readiness.memory_full(),
        asyncio.gather(_census(app[ADMIN]), readiness.ages(KNOWN_QUEUES), readiness.append_only()),
        _legacy(migration),
    )
    census, ages, append_only = waiting
    heartbeats, listening, historians = processes
    load = load_of(heartbeats)
    circuits = [beat.circuits for beat in heartbeats] + list(map(circuits_of, historians))
    history = app.get(HISTORY)
    if history is not None:
        circuits.append({history.breaker.name: history.breaker.circuit})
    objects = app.get(OBJECTS)
    if objects is not None:
        circuits.append({objects.breaker.name: objects.breaker.circuit})
    copies = None
    if migration is not None:
        circuits += [legacy.circuits, migration.circuits()]
        copies = migration.shadow.totals
    return Measured(
        connections=_connections(app[GUARD]),
        fleet=Fleet(
            depths={**_depths_of(census), **legacy.depths},
            steps=_steps_of(census),
            ages={**{("celery", queue): age_s for queue, age_s in ages.items()}, **legacy.ages},
            load=load,
            append_only=append_only,
            desired=None if census is None else decide(app, census, ages, load).desired_workers,
        ),
        claimed=None if census is None else census.claimed,
        dead_letters=None if census is None else census.dead_letters,
        workers=workers_of(heartbeats, listening),
        sandboxes=sandboxes_of(heartbeats),
        lanes=lanes_of(heartbeats),
        compile_cache_bytes=compile_cache_bytes_of(heartbeats),
        completions=completions,
        circuits=dict(islice(worst(circuits).items(), _CIRCUITS)),
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


def _steps_of(census: Census | None) -> Depths:
    queues = census.queues if census is not None else []
    return {(queue.name, step): n for queue in queues for step, n in queue.by_step.items()}


def _connections(guard: ConnectionGuard) -> Connections:
    faults = {fault.value: guard.faults[fault] for fault in Fault}
    return Connections(open=len(guard), held_bytes=guard.held_bytes, faults=faults)


class _Legacy(NamedTuple):
    depths: Depths
    ages: dict[tuple[str, str], float]
    circuits: dict[str, Circuit]


async def _legacy(migration: Migration | None) -> _Legacy:
    """The legacy queue, and circuits of its workers; empty where they cannot be read."""
    if migration is None:
        return _Legacy({}, {}, {})
    try:
        stats = await legacy_stats(migration.legacy)
    except LegacyError:
        return _Legacy({}, {}, {})
    queue = ("legacy", LEGACY_QUEUE)
    return _Legacy({queue: stats.queued}, {queue: stats.oldest_queued_s}, stats.circuits)

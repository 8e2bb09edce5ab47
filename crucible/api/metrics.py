"""``/metrics`` for Prometheus."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from crucible.api.app_keys import ADMIN, METER, READINESS, SERVICE
from crucible.breaker import BreakerState, worst
from crucible.errors import BrokerError, LegacyError
from crucible.evaluation.readiness import PROBE_S
from crucible.migration.live.service import RoutedService
from crucible.settings import KNOWN_QUEUES
from crucible.telemetry.submissions import Ends

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.breaker import Circuit
    from crucible.broker.admin.operator import Admin
    from crucible.evaluation.service import EvaluationService

_STATES = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


async def show(request: web.Request) -> web.Response:
    """``GET /metrics``: what this process counted, and the depths of both sides' queues."""
    service, readiness = request.app[SERVICE], request.app[READINESS]
    now = CollectorRegistry()
    depth = Gauge("queue_depth", "Messages waiting.", ["queue_system", "queue"], registry=now)
    # All at once: a server that hangs costs each of them its deadline.
    ends, signs, legacy, _ = await asyncio.gather(
        readiness.ends(),
        readiness.signs_of_life(),
        _legacy(service, depth),
        _celery_depths(request.app[ADMIN], depth),
    )
    now.register(Ends(ends))
    circuits = [sign.circuits for sign in signs] + legacy
    if isinstance(service, RoutedService):
        circuits.append({breaker.name: breaker.circuit for breaker in service.breakers})
        _copies(service, now)
    _circuits(worst(circuits), now)
    text = generate_latest(request.app[METER].registry) + generate_latest(now)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _celery_depths(admin: Admin, depth: Gauge) -> None:
    """A depth that cannot be read is left out: zero would be a lie."""
    try:
        async with asyncio.timeout(PROBE_S):
            census = await admin.census(KNOWN_QUEUES)
    except (BrokerError, TimeoutError):
        return
    for queue in census.queues:
        depth.labels("celery", queue.name).set(queue.waiting)


async def _legacy(service: EvaluationService, depth: Gauge) -> list[dict[str, Circuit]]:
    """Show how much waits in the legacy queue, if there is one; the circuits of its workers."""
    if not isinstance(service, RoutedService):
        return []
    try:
        async with asyncio.timeout(PROBE_S):
            stats = await service.legacy.stats()
    except (LegacyError, TimeoutError):
        return []
    depth.labels("legacy", "legacy").set(stats.queued)
    return [stats.circuits]


def _circuits(circuits: Mapping[str, Circuit], registry: CollectorRegistry) -> None:
    state = Gauge(
        "circuit_breaker_state", "0 closed, 1 half open, 2 open.", ["downstream"], registry=registry
    )
    opened = Gauge(
        "circuit_breaker_opened", "How often it opened.", ["downstream"], registry=registry
    )
    for name, circuit in circuits.items():
        state.labels(name).set(_STATES[circuit.state])
        opened.labels(name).set(circuit.opened_total)


def _copies(service: RoutedService, registry: CollectorRegistry) -> None:
    copies = Gauge(
        "shadow_copies", "Dual-write copies, by what became of them.", ["end"], registry=registry
    )
    for end, count in service.shadow.totals.items():
        copies.labels(end).set(count)

"""``/metrics`` for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from crucible.api.keys import ADMIN, GATEWAY, METER, READINESS
from crucible.api.meter import Ends
from crucible.api.routed import RoutedGateway
from crucible.breaker import BreakerState, worst
from crucible.errors import BrokerError, LegacyError
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.breaker import Circuit
    from crucible.broker.admin.operator import Admin

_STATES = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


async def show(request: web.Request) -> web.Response:
    """``GET /metrics``: what this process counted, and the depths of both sides' queues."""
    gateway = request.app[GATEWAY]
    now = CollectorRegistry()
    depth = Gauge("queue_depth", "Messages waiting.", ["queue_system", "queue"], registry=now)
    await _celery_depths(request.app[ADMIN], depth)
    readiness = request.app[READINESS]
    now.register(Ends(await readiness.ends()))
    circuits = [sign.circuits for sign in await readiness.signs_of_life()]
    if isinstance(gateway, RoutedGateway):
        circuits += await _legacy(gateway, depth)
        circuits.append({breaker.name: breaker.circuit for breaker in gateway.breakers})
        _copies(gateway, now)
    _circuits(worst(circuits), now)
    text = generate_latest(request.app[METER].registry) + generate_latest(now)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _celery_depths(admin: Admin, depth: Gauge) -> None:
    """A depth that cannot be read is left out: zero would be a lie."""
    try:
        census = await admin.census(KNOWN_QUEUES)
    except BrokerError:
        return
    for queue in census.queues:
        depth.labels("celery", queue.name).set(queue.waiting)


async def _legacy(gateway: RoutedGateway, depth: Gauge) -> list[dict[str, Circuit]]:
    """Show how much waits in the legacy queue; the circuits of its workers."""
    try:
        stats = await gateway.legacy.stats()
    except LegacyError:
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


def _copies(gateway: RoutedGateway, registry: CollectorRegistry) -> None:
    copies = Gauge(
        "shadow_copies", "Dual-write copies, by what became of them.", ["end"], registry=registry
    )
    for end, count in gateway.shadow.totals.items():
        copies.labels(end).set(count)

"""``/metrics`` for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from crucible.api.keys import ADMIN, GATEWAY, METER
from crucible.api.routed import RoutedGateway
from crucible.errors import BrokerError, LegacyError
from crucible.migration.breaker import BreakerState
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from crucible.broker.admin.operator import Admin

_STATES = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


async def show(request: web.Request) -> web.Response:
    """``GET /metrics``: what this process counted, and the depths of both sides' queues."""
    gateway = request.app[GATEWAY]
    now = CollectorRegistry()
    depth = Gauge("queue_depth", "Messages waiting.", ["queue_system", "queue"], registry=now)
    await _celery_depths(request.app[ADMIN], depth)
    if isinstance(gateway, RoutedGateway):
        await _legacy_depths(gateway, depth)
        _circuits(gateway, now)
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


async def _legacy_depths(gateway: RoutedGateway, depth: Gauge) -> None:
    try:
        stats = await gateway.legacy.stats()
    except LegacyError:
        return
    depth.labels("legacy", "legacy").set(stats.queued)


def _circuits(gateway: RoutedGateway, registry: CollectorRegistry) -> None:
    state = Gauge(
        "circuit_breaker_state", "0 closed, 1 half open, 2 open.", ["downstream"], registry=registry
    )
    opened = Gauge(
        "circuit_breaker_opened", "How often it opened.", ["downstream"], registry=registry
    )
    copies = Gauge(
        "shadow_copies", "Dual-write copies, by what became of them.", ["end"], registry=registry
    )
    for breaker in gateway.breakers:
        state.labels(breaker.name).set(_STATES[breaker.state])
        opened.labels(breaker.name).set(breaker.opened_total)
    for end, count in gateway.shadow.totals.items():
        copies.labels(end).set(count)

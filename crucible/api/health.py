"""``/health`` (the process lives) and ``/ready`` (evaluations would be accepted and run)."""

from __future__ import annotations

import msgspec
from aiohttp import web

import crucible
from crucible.api.app_keys import READINESS, SERVICE
from crucible.migration.live.readiness import with_legacy
from crucible.migration.live.service import RoutedService

_LIVE = msgspec.json.encode({"status": "ok", "version": crucible.__version__})


async def live(request: web.Request) -> web.Response:
    """``GET /health``: answers as long as the process does; asks nobody else."""
    return web.Response(body=_LIVE, content_type="application/json")


async def ready(request: web.Request) -> web.Response:
    """``GET /ready``: each dependency, 503 when evaluations would not be run."""
    report = await request.app[READINESS].report()
    service = request.app[SERVICE]
    if isinstance(service, RoutedService):
        report = await with_legacy(report, service)
    return web.Response(
        body=msgspec.json.encode(report),
        status=200 if report.ready else 503,
        content_type="application/json",
        headers={} if report.ready else {"Retry-After": "2"},
    )

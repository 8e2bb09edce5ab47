"""``/health`` (the process lives) and ``/ready`` (evaluations would be accepted and run)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import crucible
from crucible.api.app_keys import HISTORY, MIGRATION, OBJECTS, READINESS
from crucible.api.facades import health_of
from crucible.http.answers import json_answer
from crucible.migration.live.readiness import with_legacy

if TYPE_CHECKING:
    from aiohttp import web

_RETRY_AFTER = {"Retry-After": "2"}


async def live(request: web.Request) -> web.Response:
    """``GET /health``: answers as long as the process does; depends on nothing else."""
    if (said := health_of(request)) is not None:
        return json_answer(said)
    return json_answer({"status": "ok", "version": crucible.__version__})


async def ready(request: web.Request) -> web.Response:
    """``GET /ready``: each dependency; 503 when evaluations would not be accepted or run.

    Without any worker it is 200 with ``status: degraded``: what is accepted waits, and an api that
    could not be ready before its workers are would block a rollout of both.
    """
    history = request.app.get(HISTORY)
    own = {} if history is None else {history.breaker.name: history.breaker.circuit}
    objects = request.app.get(OBJECTS)
    if objects is not None:
        own[objects.breaker.name] = objects.breaker.circuit
    report = await request.app[READINESS].report(own)
    migration = request.app.get(MIGRATION)
    if migration is not None:
        report = await with_legacy(report, migration)
    if report.ready:
        return json_answer(report)
    return json_answer(report, 503, headers=_RETRY_AFTER)

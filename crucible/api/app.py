"""The HTTP application: its routes, and what it opens and closes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from aiohttp import web

from crucible.api import evaluations, health, metrics, migration, openapi, operations
from crucible.api.app_keys import ADMIN, METER, READINESS, SERVICE, SETTINGS
from crucible.api.problems import problems
from crucible.broker import Publisher
from crucible.broker.admin.operator import Admin
from crucible.broker.control.client import ControlClient
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.readiness import Readiness
from crucible.evaluation.service import EvaluationService
from crucible.executor.languages import LANGUAGES
from crucible.migration.live.service import RoutedService
from crucible.telemetry.submissions import Meter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.typedefs import Handler

    from crucible.settings import Settings


class Servers(TypedDict):
    """What every client of the queue and result servers is told."""

    result_url: str
    global_keyprefix: str
    result_ttl_s: int
    scripting: bool


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the API."""

    method: str
    path: str
    handler: Handler


ROUTES = (
    Route("POST", "/api/eval", evaluations.submit),
    Route("GET", "/api/eval/{eval_id}", evaluations.show),
    Route("DELETE", "/api/eval/{eval_id}", evaluations.cancel),
    Route("GET", "/api/languages", evaluations.languages),
    Route("GET", "/api/v1/queues", operations.queues),
    Route("GET", "/api/v1/dlq", operations.dead_letters),
    Route("GET", "/api/v1/dlq/{letter_id}", operations.dead_letter),
    Route("DELETE", "/api/v1/dlq/{letter_id}", operations.delete),
    Route("POST", "/api/v1/dlq/{letter_id}/replay", operations.replay),
    Route("GET", "/api/v1/migration", migration.show),
    Route("PUT", "/api/v1/migration", migration.change),
    Route("GET", "/api/v1/migration/mismatches", migration.mismatches),
    Route("GET", "/metrics", metrics.show),
    Route("GET", "/health", health.live),
    Route("GET", "/ready", health.ready),
    Route("GET", "/openapi.json", openapi.document),
    Route("GET", "/docs", openapi.page),
)


def build_app(settings: Settings) -> web.Application:
    """The application; it opens its connections when it starts and closes them when it ends."""
    app = web.Application(middlewares=[problems], client_max_size=settings.max_body_kb * 1024)
    app[SETTINGS] = settings
    app.cleanup_ctx.append(_connections)
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)  # HEAD as well
        else:
            app.router.add_route(route.method, route.path, route.handler)
    return app


async def _connections(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(
            Publisher.connect(
                settings.celery_broker_url,
                result_url=settings.result_url,
                global_keyprefix=settings.global_keyprefix,
                queue_limit=settings.queue_limit,
                deadline_s=settings.publish_deadline_s,
                scripting=settings.claim == "atomic",
            )
        )
        servers: Servers = {
            "result_url": settings.result_url,
            "global_keyprefix": settings.global_keyprefix,
            "result_ttl_s": settings.result_ttl_s,
            "scripting": settings.claim == "atomic",
        }
        control = await stack.enter_async_context(
            ControlClient.connect(settings.celery_broker_url, **servers)
        )
        app[ADMIN] = await stack.enter_async_context(
            Admin.connect(settings.celery_broker_url, **servers)
        )
        # Without a legacy queue there is nothing to choose, and nothing is spent on choosing.
        kind = RoutedService if settings.queue_service_url else EvaluationService
        service = kind(
            publisher,
            control,
            languages=LANGUAGES,
            ceilings=ceilings_of(settings),
            result_ttl_s=settings.result_ttl_s,
            isolations=settings.isolations,
        )
        app[SERVICE] = service
        app[METER] = Meter(service.submitted)
        if isinstance(service, RoutedService):
            await stack.enter_async_context(service.opened(settings, app[METER]))
        app[READINESS] = await stack.enter_async_context(Readiness.connect(settings))
        yield

"""The HTTP application: its routes, and what it opens and closes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from aiohttp import web

from crucible.api import (
    dead_letters,
    environments,
    evaluations,
    event_streams,
    health,
    history,
    metrics,
    migration,
    openapi,
    pages,
    queues,
)
from crucible.api.app_keys import (
    ADMIN,
    EVENT_HUB,
    EVENT_WRITER,
    EVENTS,
    FAST_PATH,
    HISTORY,
    METER,
    MIGRATION,
    READINESS,
    SERVED,
    SERVICE,
    SETTINGS,
)
from crucible.api.callers import identify
from crucible.api.event_streams import render
from crucible.api.problems import problems
from crucible.broker import Publisher
from crucible.broker.admin.operator import Admin
from crucible.broker.control.client import ControlClient
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.requirements import require_usable
from crucible.errors import RequirementError
from crucible.evaluation.celery_service import CeleryService
from crucible.evaluation.executor_settings import breaker_policy
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.readiness import PROBE_S, Readiness
from crucible.events.hub import open_hub
from crucible.events.writer import NoEvents, open_writer
from crucible.executor.served import ServedEnvironments
from crucible.http.guard import GUARD, ConnectionGuard, Limits
from crucible.http.hosts import HOSTS, HostPolicy, host_guard
from crucible.http.query import check_query
from crucible.migration.live.migration import open_migration
from crucible.migration.live.service import RoutedService
from crucible.redis_keys import Keys
from crucible.telemetry.submissions import Meter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.typedefs import Handler

    from crucible.settings import Settings


class Servers(TypedDict):
    """What every client of the queue and result servers is opened with."""

    result_url: str
    global_keyprefix: str
    result_keyprefix: str
    result_ttl_s: int
    scripting: bool


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the API.

    Attributes:
        method: HTTP method; HEAD comes with GET.
        path: as aiohttp's router has it.
        handler: answers it.
        query: parameters it knows; others are refused.
        query_prefix: what the names of further ones begin with.
    """

    method: str
    path: str
    handler: Handler
    query: frozenset[str] = frozenset()
    query_prefix: str = ""

    def checked(self) -> Handler:
        """The handler behind a check of the query's parameters."""

        async def checked(request: web.Request) -> web.StreamResponse:
            check_query(request, self.query, self.query_prefix)
            return await self.handler(request)

        return checked


_WAIT = frozenset({"wait"})
_LIMIT = frozenset({"limit"})
ROUTES = (
    Route("POST", "/api/eval", evaluations.submit, _WAIT),
    Route(
        "GET", "/api/eval", history.list_, history.FILTERS | _LIMIT | {"cursor"}, history.METADATA
    ),
    Route("GET", "/api/v1/stats", history.stats, frozenset({"tenant", "since", "until", "bucket"})),
    Route("GET", "/api/eval/{eval_id}", evaluations.show, _WAIT),
    Route("DELETE", "/api/eval/{eval_id}", evaluations.cancel),
    Route("GET", "/api/eval/{eval_id}/events", event_streams.follow_one),
    Route("GET", "/api/events", event_streams.follow_all, frozenset({"status"})),
    Route("GET", "/api/environments", environments.environments),
    Route("GET", "/api/languages", environments.languages),
    Route("GET", "/api/v1/queues", queues.show),
    Route("GET", "/api/v1/dlq", dead_letters.list_, _LIMIT | {"before"}),
    Route("GET", "/api/v1/dlq/{letter_id}", dead_letters.show),
    Route("DELETE", "/api/v1/dlq/{letter_id}", dead_letters.delete),
    Route("POST", "/api/v1/dlq/{letter_id}/replay", dead_letters.replay),
    Route("GET", "/api/v1/migration", migration.show),
    Route("PUT", "/api/v1/migration", migration.change),
    Route("GET", "/api/v1/migration/mismatches", migration.mismatches, _LIMIT),
    Route("GET", "/metrics", metrics.show),
    Route("GET", "/health", health.live),
    Route("GET", "/ready", health.ready),
    Route("GET", "/openapi.json", openapi.document),
    Route("GET", "/", pages.index),
    Route("GET", "/docs", pages.docs),
    Route("GET", "/docs/docs.css", pages.style),
    Route("GET", "/docs/docs.js", pages.script),
)


def build_app(settings: Settings) -> web.Application:
    """The application; it opens its connections when it starts and closes them when it stops."""
    hosts = HostPolicy(settings.host, settings.allowed_hosts)
    app = web.Application(
        middlewares=[problems, host_guard(hosts), identify],
        client_max_size=settings.max_body_kb * 1024,
    )
    app[SETTINGS], app[HOSTS] = settings, hosts
    app[GUARD] = ConnectionGuard(connection_limits(settings))
    app[SERVED] = ServedEnvironments(settings.served_environments)
    app.cleanup_ctx.append(_connections)
    app.on_shutdown.append(_end_streams)
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.path, route.checked())  # HEAD as well
        else:
            app.router.add_route(route.method, route.path, route.checked())
    return app


def connection_limits(settings: Settings) -> Limits:
    """What clients may hold of this installation's api."""
    return Limits(
        head_s=settings.head_timeout_s,
        grace_s=settings.transfer_grace_s,
        rate=settings.transfer_rate_kb * 1024,
        idle_s=settings.idle_timeout_s,
        body_bytes=settings.max_body_kb * 1024,
        held_bytes=settings.max_unfinished_mb << 20,
        connections=settings.max_connections,
        connections_of_address=settings.max_connections_per_address,
    )


async def _connections(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(
            Publisher.connect(
                settings.celery_broker_url,
                result_url=settings.result_url,
                global_keyprefix=settings.global_keyprefix,
                result_keyprefix=settings.result_prefix,
                queue_limit=settings.queue_limit,
                deadline_s=settings.publish_deadline_s,
                scripting=settings.claim == "atomic",
            )
        )
        servers: Servers = {
            "result_url": settings.result_url,
            "global_keyprefix": settings.global_keyprefix,
            "result_keyprefix": settings.result_prefix,
            "result_ttl_s": settings.result_ttl_s,
            "scripting": settings.claim == "atomic",
        }
        control = await stack.enter_async_context(
            ControlClient.connect(settings.celery_broker_url, **servers)
        )
        app[ADMIN] = await stack.enter_async_context(
            Admin.connect(settings.celery_broker_url, **servers)
        )
        app[METER] = Meter()
        await _add_events(app, stack, publisher.keys)
        await _add_history(app, stack)
        await _add_service(app, stack, publisher, control)
        await _require_usable(settings)
        app[READINESS] = await stack.enter_async_context(Readiness.connect(settings, control))
        yield


async def _add_events(app: web.Application, stack: AsyncExitStack, keys: Keys) -> None:
    """What writes events of this process, and what serves those of all; nothing without a bus."""
    settings = app[SETTINGS]
    app[EVENTS] = NoEvents()
    if settings.event_bus is None:
        return
    writer = open_writer(settings.event_bus, keys, stream_limit=settings.event_limit)
    hub = open_hub(
        settings.event_bus,
        keys,
        render,
        limit=settings.max_event_streams,
        limit_of_tenant=settings.max_event_streams_per_tenant,
    )
    app[EVENTS] = app[EVENT_WRITER] = await stack.enter_async_context(writer)
    app[EVENT_HUB] = await stack.enter_async_context(hub)


async def _add_history(app: web.Application, stack: AsyncExitStack) -> None:
    """What reads the history; nothing without one."""
    settings = app[SETTINGS]
    if settings.history is None:
        return
    try:
        # Imported here: SQLAlchemy is an extra, and most of what an api needs memory for.
        from crucible.history.reader import open_reader
    except ImportError as error:
        raise RequirementError(
            f"the history needs {error.name}", "pip install 'crucible-sandbox[history]'"
        ) from None
    reader = open_reader(settings.history, breaker_policy(settings))
    app[HISTORY] = await stack.enter_async_context(reader)


async def _end_streams(app: web.Application) -> None:
    """End streams of events, which would go on for as long as their clients like."""
    hub = app.get(EVENT_HUB)
    if hub is not None:
        hub.close()


async def _require_usable(settings: Settings) -> None:
    """Refuse to start on a server that can never work.

    Raises:
        RequirementError: it cannot.
    """
    async with open_client(settings.celery_broker_url, command_timeout_s=PROBE_S) as client:
        keys = Keys(settings.global_keyprefix, settings.result_prefix)
        scripting = settings.claim == "atomic"
        await require_usable(client, keys, scripting=scripting, needs_all_rights=False)


async def _add_service(
    app: web.Application, stack: AsyncExitStack, publisher: Publisher, control: ControlClient
) -> None:
    """The service of this installation, and what comes with it: migration or fast path."""
    settings, meter = app[SETTINGS], app[METER]
    celery = CeleryService(
        publisher,
        control,
        served=app[SERVED],
        ceilings=ceilings_of(settings),
        result_ttl_s=settings.result_ttl_s,
        isolations=settings.isolations,
        events=app[EVENTS],
    )
    if settings.queue_service_url:
        parts = await stack.enter_async_context(
            open_migration(settings, publisher, app[SERVED], app[EVENTS])
        )
        app[MIGRATION] = parts
        app[SERVICE] = RoutedService(celery, parts, control, meter.selected)
    else:
        # Nothing to choose between, so nothing is spent on choosing.
        app[SERVICE] = app[FAST_PATH] = celery
    meter.count_submissions(app[SERVICE].submitted)

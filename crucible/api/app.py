"""The HTTP application: its routes, and what it opens and closes."""

from __future__ import annotations

import asyncio
import functools
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from aiohttp import web

from crucible.api import (
    assessments,
    attempts,
    autoscale,
    batch,
    console,
    dead_letters,
    environments,
    evaluations,
    health,
    history,
    keys,
    metrics,
    migration,
    openapi,
    outputs,
    pages,
    principal,
    queues,
    recent,
    sessions,
    sides,
    tasks,
    webhooks,
    workers,
    workflows,
)
from crucible.api.app_keys import (
    ADMIN,
    AUTOSCALER,
    CANCELLATION,
    EVENT_HUB,
    EVENT_WRITER,
    EVENTS,
    FAST_PATH,
    FLEET,
    FORGETTER,
    HISTORY,
    METER,
    MIGRATION,
    OBJECTS,
    PURGED,
    READINESS,
    RETRIES,
    SERVED,
    SERVICE,
    SESSIONS,
    SETTINGS,
    TASKS,
    WEBHOOKS,
)
from crucible.api.callers import CALLERS, Callers, caller_of
from crucible.api.events import handlers as events
from crucible.api.events.handlers import render
from crucible.api.facades import add_facades, load_of
from crucible.api.key_refusals import refusals
from crucible.api.problems import DRAIN_RATE, not_submitted, problems
from crucible.api.traces import add_tracing
from crucible.broker import Publisher
from crucible.broker.admin.fleet import open_fleet
from crucible.broker.admin.operator import Admin
from crucible.broker.control.client import ControlClient
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.requirements import require_usable
from crucible.compat.context import CONTEXT, FacadeContext
from crucible.console import pages as console_pages
from crucible.errors import BrokerUnavailable, NothingStored, RequirementError
from crucible.evaluation.allowance import allowances
from crucible.evaluation.cancellation import Cancellation
from crucible.evaluation.celery_service import CeleryService
from crucible.evaluation.completion_store import counting_cancelled
from crucible.evaluation.executor_settings import breaker_policy
from crucible.evaluation.forgetting import open_forgetter
from crucible.evaluation.in_flight import InFlightSets
from crucible.evaluation.isolations import OfferedIsolations
from crucible.evaluation.large_outputs import forget_objects, open_store
from crucible.evaluation.readiness import PROBE_S, Readiness
from crucible.evaluation.record import unended_ttl_s
from crucible.evaluation.retries import Retries
from crucible.evaluation.session_service import SessionService
from crucible.evaluation.task_directory import TaskDirectory
from crucible.evaluation.task_history import TaskHistory
from crucible.evaluation.webhook_ends import pushes_of
from crucible.evaluation.webhook_notifier import WebhookNotifier
from crucible.events.hub import open_hub
from crucible.events.writer import NoEvents, open_writer
from crucible.executor.served import ServedEnvironments
from crucible.http.answers import add_security_fields
from crucible.http.guard import GUARD, ConnectionGuard, Limits
from crucible.http.hosts import HOSTS, HostPolicy, host_guard
from crucible.http.preferences import add_applied
from crucible.http.query import check_query
from crucible.identity.key_store import check_scripting
from crucible.identity.key_table import KeyTable
from crucible.identity.rates import KeyRates
from crucible.migration.live.migration import open_migration
from crucible.migration.live.service import RoutedService
from crucible.redis_keys import Keys
from crucible.scaling.policy import Autoscaler
from crucible.sessions.desk import SessionDesk
from crucible.settings import check_exposure, is_loopback
from crucible.telemetry.submissions import Meter
from crucible.webhooks.addresses import AddressPolicy
from crucible.webhooks.desk import open_desk
from crucible.webhooks.subscriptions import Subscriptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.typedefs import Handler
    from redis.asyncio import Redis

    from crucible.api.callers import Need
    from crucible.settings import Settings


class Servers(TypedDict):
    """What every client of the queue and result servers is opened with."""

    result_url: str
    global_keyprefix: str
    result_keyprefix: str
    result_ttl_s: int
    scripting: bool


def admitted(handler: Handler, need: Need) -> Handler:
    """A handler behind the check of its caller."""

    async def admitted(request: web.Request) -> web.StreamResponse:
        try:
            await request.app[CALLERS].admit(request, need)
        except BrokerUnavailable as error:
            if need == "submit" and request.method == "POST":
                return not_submitted(NothingStored(str(error)), named=False)
            raise
        return await handler(request)

    return admitted


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the API.

    Attributes:
        method: HTTP method; HEAD comes with GET.
        path: as aiohttp's router has it.
        need: the scope that its caller must have, see ``callers.Need``.
        handler: answers it.
        query: parameters it knows; others are refused.
        query_prefix: what the names of further ones begin with.
    """

    method: str
    path: str
    need: Need
    handler: Handler
    query: frozenset[str] = frozenset()
    query_prefix: str = ""

    def checked(self) -> Handler:
        """The handler behind checks of the caller and of the query's parameters."""

        async def checked(request: web.Request) -> web.StreamResponse:
            check_query(request, self.query, self.query_prefix)
            return await self.handler(request)

        return admitted(checked, self.need)


#: Seconds between two looks at how many evaluations have completed.
MEASURE_S = 2.0
_WAIT = frozenset({"wait"})
_LIMIT = frozenset({"limit"})
_TASK_ROUTES: tuple[tuple[str, str, Need, Handler, frozenset[str]], ...] = (
    ("GET", "/tasks", "read", tasks.list_, _LIMIT | {"state", "cursor"}),
    ("GET", "/tasks/workers/status", "read", tasks.workers, frozenset()),
    ("GET", "/tasks/{task_id}", "read", tasks.show, frozenset()),
    ("DELETE", "/tasks/{task_id}", "submit", tasks.cancel, frozenset()),
    ("GET", "/tasks/{task_id}/result", "read", tasks.result, frozenset()),
    ("GET", "/workers/status", "read", tasks.workers, frozenset()),
    ("POST", "/assessments", "submit", assessments.create, frozenset()),
    ("GET", "/assessments", "read", assessments.list_, _LIMIT),
    ("GET", "/assessments/{assessment_id}", "read", assessments.show, frozenset()),
    ("DELETE", "/assessments/{assessment_id}", "submit", assessments.cancel, frozenset()),
    ("POST", "/assessments/{assessment_id}/cases", "submit", assessments.add_cases, frozenset()),
    ("POST", "/assessments/{assessment_id}/start", "submit", assessments.start, frozenset()),
    (
        "GET", "/assessments/{assessment_id}/report", "read", assessments.report,
        assessments.REPORT_QUERY,
    ),
)  # fmt: skip
ROUTES = (
    Route("POST", "/api/eval", "submit", evaluations.submit, _WAIT),
    Route("POST", "/api/eval/batch", "submit", batch.submit, _WAIT),
    Route("GET", "/api/eval", "read", history.list_, history.LISTED, history.METADATA),
    Route("GET", "/api/v1/stats", "read", history.stats, history.COUNTED),
    Route("GET", "/api/eval/{eval_id}", "read", evaluations.show, _WAIT),
    Route("GET", "/api/eval/{eval_id}/output/{name}", "read", outputs.show),
    Route("DELETE", "/api/eval/{eval_id}", "submit", evaluations.cancel, frozenset({"purge"})),
    Route("POST", "/api/eval/{eval_id}/retry", "submit", attempts.retry),
    Route("GET", "/api/eval/{eval_id}/request", "read", attempts.content),
    Route("DELETE", "/api/eval", "submit", attempts.cancel_many, *attempts.QUERY),
    Route("GET", "/api/eval/{eval_id}/events", "read", events.follow_one),
    Route("GET", "/api/events", "read", events.follow_all, frozenset({"status"})),
    Route("GET", "/api/environments", "key", environments.environments),
    Route("GET", "/api/languages", "key", environments.languages),
    Route("GET", "/api/v1/me", "key", principal.show),
    Route("GET", "/api/v1/workers", "admin", workers.list_),
    Route("POST", "/api/v1/flower", "admin", console.admit_to_flower),
    Route("GET", "/api/v1/queues", "admin", queues.show),
    Route("GET", "/api/v1/queues/recent", "admin", recent.show),
    Route("POST", "/api/v1/queues/{queue}/purge", "admin", queues.purge),
    Route("GET", "/api/v1/autoscale", "loopback", autoscale.show),
    Route("GET", "/api/v1/dlq", "read", dead_letters.list_, _LIMIT | {"before"}),
    Route("GET", "/api/v1/dlq/{letter_id}", "read", dead_letters.show),
    Route("DELETE", "/api/v1/dlq/{letter_id}", "submit", dead_letters.delete),
    Route("POST", "/api/v1/dlq/{letter_id}/replay", "submit", dead_letters.replay),
    Route("GET", "/api/v1/keys", "admin", keys.list_),
    Route("POST", "/api/v1/keys", "admin", keys.create),
    Route("DELETE", "/api/v1/keys/{key_id}", "admin", keys.revoke),
    Route("POST", "/api/v1/keys/{key_id}/rotate", "admin", keys.rotate),
    Route("GET", "/api/v1/migration", "admin", migration.show),
    Route("PUT", "/api/v1/migration", "admin", migration.change),
    Route("GET", "/api/v1/migration/sides", "admin", sides.show),
    Route("GET", "/api/v1/migration/mismatches", "admin", migration.mismatches, _LIMIT),
    Route("POST", "/api/v1/webhooks", "submit", webhooks.create),
    Route("GET", "/api/v1/webhooks", "read", webhooks.list_),
    Route("DELETE", "/api/v1/webhooks/{webhook_id}", "submit", webhooks.delete),
    Route("POST", "/api/v1/webhooks/{webhook_id}/rotate", "submit", webhooks.rotate),
    Route("GET", "/api/v1/webhooks/{webhook_id}/deliveries", "read", webhooks.deliveries),
    Route("POST", "/api/v1/webhooks/deliveries/{delivery_id}/replay", "submit", webhooks.replay),
    Route("POST", "/api/v1/sessions", "submit", sessions.create),
    Route("GET", "/api/v1/sessions", "read", sessions.list_),
    Route("GET", "/api/v1/sessions/{session_id}", "read", sessions.show),
    Route("DELETE", "/api/v1/sessions/{session_id}", "submit", sessions.close),
    Route("POST", "/api/v1/sessions/{session_id}/execute", "submit", sessions.execute),
    *(
        Route(method, f"{prefix}{path}", scope, handler, query)
        for prefix in ("", "/api/v1")
        for method, path, scope, handler, query in _TASK_ROUTES
    ),
    Route("POST", "/api/v1/workflows", "submit", workflows.submit),
    Route("GET", "/api/v1/workflows/{workflow_id}", "read", workflows.show),
    Route("DELETE", "/api/v1/workflows/{workflow_id}", "submit", workflows.cancel),
    Route("GET", "/metrics", "loopback", metrics.show),
    Route("GET", "/health", "nothing", health.live),
    Route("GET", "/ready", "nothing", health.ready),
    Route("GET", "/openapi.json", "nothing", openapi.document),
    Route("GET", "/", "nothing", console_pages.index),
    Route("GET", "/docs", "nothing", pages.docs),
    Route("GET", "/docs/docs.css", "nothing", pages.style),
    Route("GET", "/docs/docs.js", "nothing", pages.script),
)


def build_app(settings: Settings) -> web.Application:
    """The application; it opens its connections when it starts and closes them when it stops."""
    hosts = HostPolicy(settings.host, settings.allowed_hosts)
    app = web.Application(
        middlewares=[problems, host_guard(hosts)],
        client_max_size=settings.max_body_kb * 1024,
    )
    app[SETTINGS], app[HOSTS] = settings, hosts
    app[GUARD] = ConnectionGuard(connection_limits(settings))
    app[AUTOSCALER] = Autoscaler(autoscale.policy_of(settings))
    app[SERVED] = ServedEnvironments(settings.served_environments)
    app.cleanup_ctx.append(_connections)
    add_tracing(app, settings)
    app.on_shutdown.append(_end_streams)
    add_facades(app, settings.compat)
    app.on_response_prepare.extend((add_security_fields, add_applied))
    console.add_console(app)
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
                replicas=settings.replicas,
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
        client = await stack.enter_async_context(
            open_client(settings.celery_broker_url, name="keys")
        )
        app[CALLERS] = await _callers(settings, stack, client)
        app[METER] = Meter()
        await _add_events(app, stack, publisher.keys)
        await _add_history(app, stack)
        notifier = await _add_webhooks(app, stack, publisher)
        await _add_service(app, stack, publisher, control, client, notifier)
        app[assessments.ASSESSMENTS] = await assessments.open_assessments(
            stack, settings, app[SERVED], publisher, control
        )
        app[workflows.WORKFLOWS] = await workflows.open_workflows(
            stack, settings, app[SERVED], publisher, control, app[SERVICE]
        )
        app[RETRIES] = Retries(app[SERVICE], publisher, app[ADMIN])
        app[CANCELLATION] = Cancellation(publisher, control, app[ADMIN], app[EVENTS], notifier)
        store, objects = open_store(settings), None
        if store is not None:
            app[OBJECTS], objects = store, functools.partial(forget_objects, store)
        names = Keys(settings.global_keyprefix, settings.result_prefix)
        app[FORGETTER] = await stack.enter_async_context(
            open_forgetter(settings, names, app[SERVICE], app[ADMIN], app.get(HISTORY), objects)
        )
        past = TaskHistory(app[HISTORY], publisher.results) if HISTORY in app else None
        app[TASKS] = TaskDirectory(app[SERVICE], publisher, control, app[ADMIN], past)
        app[FLEET] = await stack.enter_async_context(
            open_fleet(
                settings.celery_broker_url,
                global_keyprefix=settings.global_keyprefix,
                scripting=settings.claim == "atomic",
            )
        )
        await _require_usable(settings)
        app[READINESS] = await stack.enter_async_context(Readiness.connect(settings, control))
        await stack.enter_async_context(recent.sampling(app))
        measuring = asyncio.create_task(_measure_drain(app[READINESS]), name="crucible-drain-rate")
        try:
            yield
        finally:
            measuring.cancel()
            await asyncio.gather(measuring, return_exceptions=True)


async def _measure_drain(readiness: Readiness) -> None:
    """Keep measuring how fast evaluations complete, for clients that meet a full queue."""
    while True:
        counts = (await readiness.completions()).get("celery")
        if counts is not None:
            DRAIN_RATE.note(counts.statuses.total())
        await asyncio.sleep(MEASURE_S)


async def _callers(settings: Settings, stack: AsyncExitStack, client: Redis) -> Callers:
    """What identifies callers.

    Raises:
        SettingsError: the address may not be served, or keys not be used, as things are.
    """
    names = Keys(settings.global_keyprefix, settings.result_prefix)
    table = await stack.enter_async_context(KeyTable(client, names))
    if table.known:
        check_exposure(settings.host, keyed=table.made)
    if table.made:
        check_scripting(settings)
    return Callers(
        table,
        loopback=is_loopback(settings.host),
        trusting=bool(settings.queue_service_url),
    )


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
        names = Keys(settings.global_keyprefix, settings.result_prefix)
        scripting = settings.claim == "atomic"
        await require_usable(client, names, scripting=scripting, needs_all_rights=False)


async def _add_webhooks(
    app: web.Application, stack: AsyncExitStack, publisher: Publisher
) -> WebhookNotifier:
    """What keeps the webhooks; and what sends those of ends that this process causes."""
    settings = app[SETTINGS]
    broker_url = settings.celery_broker_url
    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    policy = AddressPolicy(settings.webhook_networks)
    app[WEBHOOKS] = await stack.enter_async_context(open_desk(broker_url, keys, publisher, policy))
    subscriptions = await stack.enter_async_context(Subscriptions().watching(broker_url, keys))
    app[PURGED] = await stack.enter_async_context(
        counting_cancelled(
            broker_url,
            keys,
            settings.result_ttl_s,
            settings.celery_result_backend,
            pushes_of(subscriptions, keys),
        )
    )
    return WebhookNotifier(publisher, subscriptions)


async def _add_service(
    app: web.Application,
    stack: AsyncExitStack,
    publisher: Publisher,
    control: ControlClient,
    client: Redis,
    notifier: WebhookNotifier,
) -> None:
    """The service of this installation, and what comes with it: migration or fast path."""
    settings, meter = app[SETTINGS], app[METER]
    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    offered = await stack.enter_async_context(
        OfferedIsolations.watching(settings.celery_broker_url, keys)
    )
    allowed = allowances(settings, app[SERVED])
    celery = CeleryService(
        publisher,
        control,
        allowed=allowed,
        rates=KeyRates(settings.tier_rules, publisher.keys, unended_ttl_s(settings.result_ttl_s)),
        in_flight=InFlightSets(client, publisher.keys, publisher.results),
        result_ttl_s=settings.result_ttl_s,
        offered=offered,
        events=app[EVENTS],
        webhooks=notifier,
        addresses=AddressPolicy(settings.webhook_networks),
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
    meter.count_refusals(refusals)
    desk = await stack.enter_async_context(SessionDesk.connect(settings.celery_broker_url, keys))
    app[SESSIONS] = SessionService(desk, allowed, settings)
    app[CONTEXT] = FacadeContext(
        service=app[SERVICE],
        sessions=app[SESSIONS],
        served=app[SERVED],
        ceilings_of=lambda request: allowed[caller_of(request).tier].ceilings,
        caller_of=caller_of,
        versions=functools.partial(environments.versions, app),
        load=functools.partial(load_of, app),
    )

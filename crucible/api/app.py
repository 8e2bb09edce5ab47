"""The HTTP application: what it opens, in which order, and closes."""

from __future__ import annotations

import asyncio
import functools
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypedDict

from aiohttp import web

from crucible.api import (
    assessments,
    autoscale,
    console,
    environments,
    recent,
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
from crucible.api.events.handlers import render
from crucible.api.facades import add_facades, load_of
from crucible.api.key_refusals import refusals
from crucible.api.problems import DRAIN_RATE, problems
from crucible.api.routes import ROUTES
from crucible.api.traces import add_tracing
from crucible.broker import Publisher
from crucible.broker.admin.fleet import open_fleet
from crucible.broker.admin.operator import Admin
from crucible.broker.control.client import ControlClient
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.requirements import require_usable
from crucible.compat.context import CONTEXT, FacadeContext
from crucible.errors import RequirementError
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

    from redis.asyncio import Redis

    from crucible.settings import Settings


class Servers(TypedDict):
    """What every client of the queue and result servers is opened with."""

    result_url: str
    global_keyprefix: str
    result_keyprefix: str
    result_ttl_s: int
    scripting: bool


#: Seconds between two looks at how many evaluations have completed.
MEASURE_S = 2.0


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
        await require_usable(
            *(client, names),
            scripting=scripting,
            replicas=settings.replicas,
            needs_all_rights=False,
        )


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
            open_migration(settings, publisher, app[SERVED], app[EVENTS], notifier)
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

"""The service for tasks that submit evaluations; nothing is connected before one does."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crucible.broker import Publisher
from crucible.broker.control.client import ControlClient
from crucible.broker.redis.connection import open_client
from crucible.evaluation.allowance import allowances
from crucible.evaluation.celery_service import CeleryService
from crucible.evaluation.in_flight import InFlightSets
from crucible.evaluation.record import unended_ttl_s
from crucible.events.writer import open_events
from crucible.executor.served import ServedEnvironments
from crucible.identity.rates import KeyRates
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from crucible.evaluation.allowance import Allowance
    from crucible.settings import Settings


@dataclass(frozen=True, slots=True)
class InnerService:
    """What such tasks need.

    Attributes:
        service: takes evaluations. Rates and tiers do not count: they were met by the request that
            the task carries out.
        publisher: sends tasks, and reads results.
        client: of the task queue server.
        allowed: what programs may use.
    """

    service: CeleryService
    publisher: Publisher
    client: Redis
    allowed: Allowance


@asynccontextmanager
async def open_inner_service(settings: Settings) -> AsyncIterator[InnerService]:
    """The service of an installation, for its own tasks.

    Raises:
        ValueError: a URL cannot be used.
    """
    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    url, scripting = settings.celery_broker_url, settings.claim == "atomic"
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(url, name="inner"))
        publisher = await stack.enter_async_context(
            Publisher.connect(
                url,
                result_url=settings.result_url,
                global_keyprefix=settings.global_keyprefix,
                result_keyprefix=settings.result_prefix,
                queue_limit=settings.queue_limit,
                deadline_s=settings.publish_deadline_s,
                scripting=scripting,
            )
        )
        control = await stack.enter_async_context(
            ControlClient.connect(
                url,
                result_url=settings.result_url,
                global_keyprefix=settings.global_keyprefix,
                result_keyprefix=settings.result_prefix,
                result_ttl_s=settings.result_ttl_s,
                scripting=scripting,
            )
        )
        events = await stack.enter_async_context(
            open_events(settings.event_bus, keys, settings.event_limit)
        )
        allowed = allowances(settings, ServedEnvironments(settings.served_environments))
        service = CeleryService(
            publisher,
            control,
            allowed=allowed,
            rates=KeyRates({}, keys, unended_ttl_s(settings.result_ttl_s)),
            in_flight=InFlightSets(client, keys, publisher.results),
            result_ttl_s=settings.result_ttl_s,
            events=events,
        )
        yield InnerService(service, publisher, client, allowed[None])

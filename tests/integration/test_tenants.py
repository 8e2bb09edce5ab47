"""Two tenants on one installation: neither finds anything of the other."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.api_rig import queued
from support.migration_rig import LegacyInstallation, LocalExecutor, celery_worker

from crucible.broker import Publisher
from crucible.broker.control.client import ControlClient
from crucible.broker.redis.connection import open_client
from crucible.broker.wire.decode import decode
from crucible.errors import NotFound
from crucible.evaluation.allowance import allowances
from crucible.evaluation.celery_service import CeleryService
from crucible.evaluation.in_flight import InFlightSets
from crucible.evaluation.request import EvalRequest
from crucible.executor.served import ServedEnvironments
from crucible.identity.principal import LOCAL, SCOPES, Principal
from crucible.identity.rates import KeyRates
from crucible.migration.live.migration import open_migration
from crucible.migration.live.service import RoutedService
from crucible.models import Status
from crucible.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from crucible.evaluation.service import EvaluationService
    from crucible.migration.live.migration import Migration

ACME = Principal("a", "acme", frozenset(SCOPES))
OTHER = Principal("o", "other", frozenset(SCOPES))
CALLERS = (ACME, OTHER, LOCAL)
WAIT_S = 60.0


@asynccontextmanager
async def service(redis_url: str, legacy_url: str = "") -> AsyncIterator[EvaluationService]:
    """The service of an installation; with a legacy queue everything goes there."""
    settings = load_settings(
        {},
        flags={
            "celery_broker_url": redis_url,
            "queue_service_url": legacy_url,
            "celery_percentage": 0.0 if legacy_url else 1.0,
        },
    )
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher.connect(redis_url))
        control = await stack.enter_async_context(ControlClient.connect(redis_url))
        client = await stack.enter_async_context(open_client(redis_url))
        served = ServedEnvironments()
        celery = CeleryService(
            publisher,
            control,
            allowed=allowances(settings, served),
            rates=KeyRates(settings.tier_rules, publisher.keys, 3600),
            in_flight=InFlightSets(client, publisher.keys, publisher.results),
            result_ttl_s=3600,
        )
        if not legacy_url:
            yield celery
            return
        parts: Migration = await stack.enter_async_context(
            open_migration(settings, publisher, served)
        )
        yield RoutedService(celery, parts, control, lambda _: None)


@asynccontextmanager
async def installation(kind: str, redis_url: str) -> AsyncIterator[EvaluationService]:
    """A service with somebody behind it that runs programs."""
    if kind == "celery":
        async with celery_worker(redis_url), service(redis_url) as found:
            yield found
    else:
        async with (
            LegacyInstallation(LocalExecutor(), workers=2) as legacy,
            service(redis_url, legacy.url) as found,
        ):
            yield found


@pytest.mark.parametrize("kind", ["celery", "legacy"])
async def test_each_tenant_has_ids_of_its_own(kind: str, redis_url: str) -> None:
    """The same id of three tenants is three evaluations, each with its own outcome."""
    async with installation(kind, redis_url) as found:
        for caller in CALLERS:
            asked = EvalRequest(code=f"print({caller.tenant!r})", eval_id="same")
            submitted = await found.submit(caller, asked)
            assert (submitted.eval_id, submitted.new) == ("same", True)
        for caller in CALLERS:
            assert await found.wait(caller, "same", WAIT_S)
            evaluation = await found.look_up(caller, "same")
            assert (evaluation.eval_id, evaluation.task_id) == ("same", "eval-same")
            assert evaluation.output == f"{caller.tenant}\n"


@pytest.mark.parametrize("kind", ["celery", "legacy"])
async def test_anothers_evaluation_is_unknown(kind: str, redis_url: str) -> None:
    """Looking up, cancelling: as if there were none, whatever the id was spelt like."""
    async with installation(kind, redis_url) as found:
        asked = EvalRequest(code="print(1)")
        submitted, ended = await found.submit_and_wait(ACME, asked, None, WAIT_S)
        assert ended is not None
        assert (ended.status, ended.eval_id) == (Status.COMPLETED, submitted.eval_id)
        for caller in (OTHER, LOCAL):
            for spelt in (submitted.eval_id, f"acme:{submitted.eval_id}"):
                with pytest.raises(NotFound):
                    await found.look_up(caller, spelt)
                with pytest.raises(NotFound):
                    await found.cancel(caller, spelt)


async def test_an_idempotency_key_is_its_tenants(redis_url: str, redis: Redis) -> None:
    """The same key of two tenants names two evaluations; sent again it finds each the own one."""
    async with service(redis_url) as found:
        for number in range(2):
            for caller in CALLERS:
                asked = EvalRequest(code=f"print({caller.tenant!r})")
                submitted = await found.submit(caller, asked, "the key")
                assert submitted.new == (number == 0)
    messages = [decode(raw) for raw in await queued(redis)]
    assert sorted(message.id.count(":") for message in messages) == [0, 1, 1]
    assert all(message.id == f"eval-{message.args[0]}" for message in messages)

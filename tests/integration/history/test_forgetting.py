"""``DELETE /api/eval/{id}?purge=true``: forgetting one evaluation for good."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import queued, running_api
from support.history_rig import life, migrated, rows_of
from support.keyed import make_key
from support.migration_rig import celery_worker, completed, submit, until
from support.receiver import listening_receiver

from crucible.breaker import BreakerPolicy
from crucible.evaluation.webhook_ends import end_of
from crucible.evaluation.webhook_outlet import open_outlet
from crucible.history.historian import open_historian
from crucible.history.rows import batch_of
from crucible.history.schema import attempts, evaluations, labels, purged, transitions
from crucible.history.writer import HistoryWriter
from crucible.redis_keys import Keys
from crucible.settings import load_settings
from crucible.webhooks.addresses import AddressPolicy
from crucible.webhooks.breakers import HostBreakers
from crucible.webhooks.planning import deliveries_of
from crucible.webhooks.subscriptions import Subscriptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp
    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

TABLES = (evaluations, transitions, attempts, labels)
LOOPBACK = ("127.0.0.0/8",)


@asynccontextmanager
async def writing(url: str, redis_url: str) -> AsyncIterator[None]:
    """A historian."""
    stop = asyncio.Event()
    async with open_historian(url, redis_url, Keys(), count=100, policy=BreakerPolicy()) as one:
        running = asyncio.create_task(one.run(stop))
        try:
            yield
        finally:
            stop.set()
            await running


async def forget(client: aiohttp.ClientSession, eval_id: str, **given: Any) -> int:
    """The status of the answer."""
    path = f"/api/eval/{eval_id}?purge=true"
    async with client.delete(path, **given) as response:
        if response.status == 200:
            assert await response.json() == {"eval_id": eval_id, "purged": True}
        return response.status


async def ids_in(engine: AsyncEngine) -> list[set[str]]:
    """Evaluations that each table has rows of."""
    return [{row["eval_id"] for row in await rows_of(engine, table)} for table in TABLES]


async def test_everything_of_an_ended_evaluation_is_forgotten(
    redis_url: str, redis: Redis, history_url: str
) -> None:
    """Result, rows, events and deliveries; those of others stay."""
    async with (
        migrated(history_url) as engine,
        listening_receiver() as received,
        running_api(redis_url, history_url=history_url, webhook_networks=LOOPBACK) as client,
        celery_worker(redis_url),
        writing(history_url, redis_url),
    ):
        for eval_id in ("gone", "kept"):
            hook = {"webhook_url": received.url, "metadata": {"run": "7"}}
            await submit(client, "print(1)", eval_id=eval_id, **hook)
            await completed(client, eval_id)
        await received.until(2)

        async def written() -> bool:
            return all(found == {"gone", "kept"} for found in await ids_in(engine))

        await until(written)
        await until(lambda: redis.xlen(Keys().webhook_log("local")))
        assert await forget(client, "gone") == 200
        assert await ids_in(engine) == [{"kept"}] * 4
        assert not await redis.exists("celery-task-meta-eval-gone")
        for stream in (Keys().events, Keys().webhook_log("local")):
            rows: Any = await redis.xrange(stream)
            assert not [row for row in rows if b"gone" in repr(row).encode()]
            assert [row for row in rows if b"kept" in repr(row).encode()]
        for path in ("/api/eval/gone", "/tasks/eval-gone"):
            async with client.get(path) as response:
                assert response.status == 404
        assert await forget(client, "gone") == 404
        async with client.post("/api/eval", json={"code": "1", "eval_id": "gone"}) as response:
            assert response.status == 409
        async with client.get("/api/eval/kept") as response:
            assert response.status == 200


async def test_a_late_end_does_not_bring_a_queued_one_back(
    redis_url: str, redis: Redis, history_url: str
) -> None:
    """Its message is still in the queue; the worker that meets it does not run it."""
    async with (
        migrated(history_url) as engine,
        running_api(redis_url, history_url=history_url) as client,
    ):
        await submit(client, "print(1)", eval_id="gone")
        assert await forget(client, "gone") == 200
        assert len(await queued(redis)) == 1
        async with celery_worker(redis_url), writing(history_url, redis_url):
            await submit(client, "print(1)", eval_id="after")
            await completed(client, "after")
            late = life("gone")
            await HistoryWriter(engine).write(late)
            # As a historian does that has a backlog: the rows were made before.
            await HistoryWriter(engine).write(late, batch_of(late))

            async def written() -> bool:
                return (await ids_in(engine))[0] == {"after"}

            await until(written)
        async with client.get("/api/eval/gone") as response:
            assert response.status == 404
        assert {row["eval_id"] for row in await rows_of(engine, purged)} == {"gone"}
        assert (await ids_in(engine))[1] == {"after"}


async def test_a_running_one_is_stopped_first(redis_url: str, redis: Redis) -> None:
    """Without a history as well; what its worker stores in the end is not shown."""
    async with running_api(redis_url) as client, celery_worker(redis_url):
        await submit(client, "import time; time.sleep(60)", eval_id="gone")

        async def running() -> bool:
            async with client.get("/api/eval/gone") as response:
                return bool((await response.json())["status"] == "running")

        await until(running)
        assert await forget(client, "gone") == 200
        async with client.get("/api/eval/gone") as response:
            assert response.status == 404
        stored: Any = await redis.get("celery-task-meta-eval-gone")
        assert b"REVOKED" in stored


async def test_one_that_only_the_history_has_is_forgotten(redis_url: str, history_url: str) -> None:
    """And another tenant's is unknown."""
    mine = await make_key(redis_url, "acme", "read", "submit")
    other = await make_key(redis_url, "other", "submit")
    reader = await make_key(redis_url, "acme", "read")
    async with (
        migrated(history_url) as engine,
        running_api(redis_url, history_url=history_url) as client,
    ):
        await HistoryWriter(engine).write([*life("old", tenant="acme"), *life("old")])
        assert await forget(client, "old", headers=reader.headers) == 403
        assert await forget(client, "old", headers=other.headers) == 404
        assert await forget(client, "old", headers=mine.headers) == 200
        assert [row["tenant"] for row in await rows_of(engine, evaluations)] == ["local"]
        assert await forget(client, "old", headers=mine.headers) == 404


@pytest.mark.parametrize("body", [None, '{"output": "secret"}'])
async def test_no_attempt_is_made_for_what_was_forgotten(redis_url: str, body: str | None) -> None:
    """Neither a first one nor a further one."""
    settings = load_settings({}, flags={"celery_broker_url": redis_url})
    policy = AddressPolicy(LOOPBACK)
    async with (
        listening_receiver() as received,
        running_api(redis_url, webhook_networks=LOOPBACK) as client,
        open_outlet(settings, Keys(), policy, HostBreakers(BreakerPolicy())) as outlet,
    ):
        await submit(client, "print(1)", eval_id="gone", webhook_url=received.url)
        assert await forget(client, "gone") == 200
        end = end_of("gone", "completed", "ok", url=received.url)
        assert end is not None
        (delivery,) = deliveries_of(end, Subscriptions().of("local"))
        assert await outlet.deliver(delivery, body) is None
        assert received.bodies() == []


async def test_purge_takes_true_or_false(redis_url: str) -> None:
    """Anything else is refused by name, and cancels nothing."""
    async with running_api(redis_url) as client:
        await submit(client, "print(1)", eval_id="one")
        async with client.delete("/api/eval/one?purge=yes") as response:
            assert response.status == 422
        async with client.delete("/api/eval/one?purge=false") as response:
            assert (await response.json())["status"] == "cancelled"

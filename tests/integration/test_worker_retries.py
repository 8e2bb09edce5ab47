"""What the next try of a task has of its own, and when it comes, on a real server."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from crucible.broker.wire.decode import decode
from crucible.broker.wire.encode import encode_task
from crucible.worker import SoftTimeLimitExceeded, TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from crucible.worker import TaskContext

registry = TaskRegistry()
FAR = datetime(2099, 1, 1, tzinfo=UTC)


@registry.task("r.once_more")
async def once_more(ctx: TaskContext, options: dict[str, Any]) -> list[Any]:
    """Is tried once more with these options, and returns what it then finds."""
    if not ctx.retries:
        raise ctx.retry(countdown=0.01, **options)
    return [ctx.delivery_info["routing_key"], ctx.time_limit, ctx.soft_time_limit]


@registry.task("r.limited", time_limit=500, soft_time_limit=400)
async def limited(ctx: TaskContext) -> list[float | None]:
    """The limits it runs under."""
    return [ctx.time_limit, ctx.soft_time_limit]


@registry.task("r.waits", autoretry_for=(SoftTimeLimitExceeded,), retry_kwargs={"countdown": 0})
async def waits(ctx: TaskContext, seconds: float) -> int:
    """Waits at its first try."""
    if not ctx.retries:
        await asyncio.sleep(seconds)
    return ctx.retries


@registry.task("r.at")
async def at(ctx: TaskContext, epoch_s: float) -> str | None:
    """Is tried again at a time, and returns the eta it then finds."""
    if not ctx.retries:
        raise ctx.retry(eta=datetime.fromtimestamp(epoch_s, UTC))
    return ctx.eta


@registry.task("r.far", max_retries=None)
async def far(ctx: TaskContext, expires: bool) -> None:
    """Is to be tried again in the next century, or expires before that."""
    if expires:
        raise ctx.retry(countdown=0.2, expires=datetime.now(UTC) - timedelta(seconds=1))
    raise ctx.retry(eta=FAR.replace(tzinfo=None), args=[True], queue="other")


@registry.task("r.backoff", autoretry_for=(KeyError,), retry_backoff=3600, retry_jitter=False)
async def backoff(ctx: TaskContext) -> None:
    """Is tried again after ten minutes, which is where the delay stops to grow."""
    raise KeyError("not yet")


@registry.task("r.unwritable")
async def unwritable(ctx: TaskContext, name: str) -> None:
    """Asks for what no message can carry."""
    values: dict[str, Any] = {"args": [object()], "headers": {"x": object()}, "priority": 3}
    options: Any = {name: values[name]}
    raise ctx.retry(countdown=0, **options)


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[Worker]:
    async with Worker(
        registry, broker_url=redis_url, queues=["celery", "other"], concurrency=4
    ) as worker:
        yield worker


async def send(redis: Redis, name: str, *args: Any) -> str:
    task_id = f"id-{name}-{args}"
    await redis.lpush("celery", encode_task(name, args, task_id=task_id))
    return task_id


async def final_state(redis: Redis, task_id: str) -> dict[str, Any]:
    key = f"celery-task-meta-{task_id}"
    async with asyncio.timeout(15), redis.pubsub() as pubsub:
        await pubsub.subscribe(key)
        stored: Any = await redis.get(key)
        while True:
            meta: dict[str, Any] = json.loads(stored) if stored else {}
            if meta.get("status") in ("SUCCESS", "FAILURE", "REVOKED"):
                return meta
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            stored = message["data"] if message else None


async def delayed(redis: Redis, task_id: str) -> list[Any]:
    """The message of a task that waits for its next try, and the queue it will go to."""
    async with asyncio.timeout(15):
        while True:
            for value in await redis.hvals("unacked"):
                raw, _, queue = json.loads(value)
                if raw["headers"]["id"] == task_id and raw["headers"]["retries"]:
                    return [decode(json.dumps(raw).encode()), queue]
            await asyncio.sleep(0.01)


async def test_the_next_try_has_the_queue_and_limits_it_was_given(
    worker: Worker, redis: Redis
) -> None:
    """A delayed try goes to the queue that was named, under the limits that were named."""
    task_id = await send(
        redis, "r.once_more", {"queue": "other", "time_limit": 70, "soft_time_limit": 60}
    )
    assert (await final_state(redis, task_id))["result"] == ["other", 70, 60]


async def test_a_task_sees_the_limits_it_runs_under(worker: Worker, redis: Redis) -> None:
    """Its own, where the message has none; the message's where it has."""
    assert (await final_state(redis, await send(redis, "r.limited")))["result"] == [500, 400]
    raw = encode_task("r.limited", [], task_id="by-message", options={"time_limit": 450})
    await redis.lpush("celery", raw)
    assert (await final_state(redis, "by-message"))["result"] == [450, 400]


async def test_a_soft_limit_may_be_tried_again_for(worker: Worker, redis: Redis) -> None:
    """It is raised inside the task, as in stock's process pools."""
    raw = encode_task("r.waits", [60], task_id="soft", options={"soft_time_limit": 0.05})
    await redis.lpush("celery", raw)
    meta = await final_state(redis, "soft")
    assert (meta["status"], meta["result"]) == ("SUCCESS", 1)


async def test_a_try_may_be_due_at_a_time(worker: Worker, redis: Redis) -> None:
    """One that has passed is at once, with its eta in the message."""
    meta = await final_state(redis, await send(redis, "r.at", 1_000_000_000.5))
    assert meta["result"] == "2001-09-09T01:46:40.500000+00:00"


async def test_a_try_of_the_next_century_waits_with_what_it_was_given(
    worker: Worker, redis: Redis
) -> None:
    """A time without a zone is UTC."""
    message, queue = await delayed(redis, await send(redis, "r.far", False))
    assert message.eta == FAR.timestamp()
    assert (message.args, message.queue, queue) == ([True], "other", "other")


async def test_a_try_that_has_expired_is_not_run(worker: Worker, redis: Redis) -> None:
    """As any task of which the time is over."""
    meta = await final_state(redis, await send(redis, "r.far", True))
    assert (meta["status"], meta["result"]["exc_message"]) == ("REVOKED", ["expired"])


async def test_delays_grow_up_to_their_maximum(worker: Worker, redis: Redis) -> None:
    """The first is an hour by its definition, but ten minutes are the maximum."""
    before = datetime.now(UTC).timestamp()
    message, _ = await delayed(redis, await send(redis, "r.backoff"))
    assert 600 <= message.eta - before < 3600


@pytest.mark.parametrize("name", ["args", "headers", "priority"])
async def test_a_try_that_cannot_be_written_fails_the_task(
    worker: Worker, redis: Redis, name: str
) -> None:
    """At once, in the task: not the worker, which would be given the message again."""
    meta = await final_state(redis, await send(redis, "r.unwritable", name))
    assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", "TypeError")

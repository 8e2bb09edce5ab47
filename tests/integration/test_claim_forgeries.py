"""Messages that look like stock producers' and are not: claims go by looks, workers do not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from crucible.broker.wire.encode import encode_task
from crucible.worker.registry import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from redis.asyncio import Redis

STOCK = encode_task("t.add", [1, 2], task_id="genuine")
#: Cut or altered between the parts that a claim looks at.
FORGED = {
    "not JSON": STOCK.replace(b'"retries": 0', b'"retries": 0,,'),
    "headers hold everything": STOCK.replace(b'}, "properties": {', b', "properties": {') + b"}",
    "no id": STOCK.replace(b'"id": "genuine", ', b""),
    "another queue": STOCK.replace(b'"routing_key": "celery"', b'"routing_key": "else"', 1),
}


@pytest.mark.parametrize("kind", FORGED)
async def test_a_forgery_is_a_dead_letter_or_runs(redis_url: str, redis: Redis, kind: str) -> None:
    """A forged message ends as a dead letter with its bytes, or runs; nothing of it stays."""
    registry = TaskRegistry()
    ran = asyncio.Event()

    @registry.task("t.add")
    async def add(ctx: Any, x: int, y: int) -> int:
        ran.set()
        return x + y

    raw = FORGED[kind]
    await cast("Any", redis.lpush("celery", raw))
    async with Worker(registry, broker_url=redis_url), asyncio.timeout(60):
        while await cast("Any", redis.llen("celery")) or await cast("Any", redis.hlen("unacked")):
            await asyncio.sleep(0.01)
    letters = cast("Any", await redis.xrange("crucible:dlq"))
    assert ran.is_set() or [fields[b"raw"] for _, fields in letters] == [raw]
    assert not await cast("Any", redis.hlen("unacked"))
    assert not await redis.zcard("unacked_index")


async def test_a_message_as_stock_writes_it_runs(redis_url: str, redis: Redis) -> None:
    """The message that the forgeries are made of runs, and leaves no dead letter."""
    registry = TaskRegistry()
    done = asyncio.Event()

    @registry.task("t.add")
    async def add(ctx: Any, x: int, y: int) -> int:
        done.set()
        return x + y

    await cast("Any", redis.lpush("celery", STOCK))
    async with Worker(registry, broker_url=redis_url), asyncio.timeout(60):
        await done.wait()
    assert await redis.xlen("crucible:dlq") == 0

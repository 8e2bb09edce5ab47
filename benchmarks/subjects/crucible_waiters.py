"""Many waiters for results in one process, and how soon each gets its own."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from redis.asyncio import Redis

from benchmarks.histogram import Histogram
from crucible.broker import Publisher
from crucible.broker.wire.ids import new_id

#: Results stored per round trip, as by a worker's flush.
CHUNK = 100
_stack = AsyncExitStack()
_publisher: Publisher
_redis: Redis
_META = (
    '{{"status": "SUCCESS", "result": 1, "traceback": null, "children": [], '
    '"date_done": "2026-01-01T00:00:00+00:00", "task_id": "{id}"}}'
)


async def setup(job: dict[str, Any]) -> None:
    """Connect."""
    global _publisher, _redis
    _redis = await _stack.enter_async_context(Redis.from_url(job["redis"]))
    _publisher = await _stack.enter_async_context(Publisher.connect(job["redis"]))


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Register all waiters, store all results in order, and measure when each waiter wakes."""
    ids = [new_id() for _ in range(job["count"])]
    stored: dict[str, float] = {}
    latency = Histogram()

    async def wait(task_id: str) -> None:
        await _publisher.results.wait(task_id, job["seconds"])
        latency.record(time.perf_counter() - stored[task_id])

    started = time.perf_counter()
    waiting = [asyncio.create_task(wait(task_id)) for task_id in ids]
    await _subscribed(len(ids))
    registered_s = time.perf_counter() - started
    started = time.perf_counter()
    for at in range(0, len(ids), CHUNK):
        await _store(ids[at : at + CHUNK], stored)
    await asyncio.gather(*waiting)
    elapsed_s = time.perf_counter() - started
    return {"registered_s": registered_s, "elapsed_s": elapsed_s, "latency": latency.dump()}


async def _subscribed(count: int) -> None:
    """Wait until the server has a channel for every waiter."""
    last, calm = -1, 0
    while calm < 5:
        channels = len(await _redis.pubsub_channels("celery-task-meta-*"))
        calm = calm + 1 if channels == last else 0
        last = channels
        if channels >= count:
            return
        await asyncio.sleep(0.05)


async def _store(ids: list[str], stored: dict[str, float]) -> None:
    pipeline = _redis.pipeline(transaction=True)
    now = time.perf_counter()
    for task_id in ids:
        meta = _META.format(id=task_id)
        stored[task_id] = now
        pipeline.setex(f"celery-task-meta-{task_id}", 600, meta)
        pipeline.publish(f"celery-task-meta-{task_id}", meta)
    await pipeline.execute()


async def teardown(job: dict[str, Any]) -> None:
    """Hang up."""
    await _stack.aclose()

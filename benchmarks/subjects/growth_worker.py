"""A worker in this process, no-op evaluations of several tenants, on a queue that stays long."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

from redis.asyncio import Redis

from crucible.broker.wire.encode import TaskTemplate
from crucible.broker.wire.ids import new_id
from crucible.evaluation.record import scoped_id, task_id_of
from crucible.worker.worker import Worker

QUEUE, BATCH = "evaluation", 500
_url = ""
_template = TaskTemplate("tasks.evaluate_code", QUEUE, ignore_result=False)


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Note where the queue is."""
    global _url
    _url = job["redis"]
    # Each start would warn that the server is not durable, which is intended.
    logging.getLogger("crucible").setLevel(logging.ERROR)
    os.environ.update(CELERY_BROKER_URL=_url, CRUCIBLE_EVENT_BUS_URL="off")
    return {"pid": os.getpid()}


def _message(tenant: str) -> bytes:
    eval_id = scoped_id(tenant, new_id())
    return _template.render(task_id_of(eval_id), [eval_id, "print(6 * 7)", "python"], {})


async def _fill(count: int, tenants: int) -> None:
    async with Redis.from_url(_url) as redis:
        for first in range(0, count, BATCH):
            numbers = range(first, min(count, first + BATCH))
            await redis.lpush(QUEUE, *(_message(f"t{number % tenants}") for number in numbers))


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Queue ``fill`` messages of so many ``tenants``, then take ``count`` from the queue.

    The first tenth, in which the worker starts, is not measured.
    """
    from benchmarks.subjects.noop_eval import registry  # reads the settings

    await _fill(job.get("fill", 0), job.get("tenants", 1))
    count = job["count"]
    if not count:
        return {}
    async with Worker(registry, broker_url=_url, queues=(QUEUE,)) as worker:
        while worker.settled < count // 10:
            await asyncio.sleep(0.001)
        first, began_s, used_s = worker.settled, time.perf_counter(), time.process_time()
        while worker.settled < count:
            await asyncio.sleep(0.001)
        tasks = worker.settled - first
        used_s, elapsed_s = time.process_time() - used_s, time.perf_counter() - began_s
    return {"worker_us": 1e6 * used_s / tasks, "tasks_per_s": tasks / elapsed_s}


def teardown(job: dict[str, Any]) -> None:
    """Nothing is open."""

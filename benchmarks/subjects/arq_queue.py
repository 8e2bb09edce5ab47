"""arq: enqueueing, and its worker in two processes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from command import Command, script
from wire import watch

AT_ONCE = 100
_job: dict[str, Any] = {}
_workers: list[Command] = []
_LEFT = (("ZCARD", "arq:queue"),)
_pool: Any = None


async def setup(job: dict[str, Any]) -> None:
    """Connect."""
    global _pool
    _job.update(job)
    _pool = await create_pool(RedisSettings.from_dsn(job["redis"]))


async def _fill(count: int) -> None:
    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*(_pool.enqueue_job("noop", n) for n in range(start, start + AT_ONCE)))


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Enqueue for some seconds, or work through a number of jobs."""
    if job["what"] == "enqueue":
        started, sent = time.perf_counter(), 0
        while time.perf_counter() - started < job["seconds"]:
            await _fill(AT_ONCE)
            sent += AT_ONCE
        return {"sent": sent, "elapsed_s": time.perf_counter() - started}
    await _fill(job["count"])
    _workers.extend(
        Command(script("arq"), "arq_noop.WorkerSettings", QUEUE_URL=_job["redis"], PYTHONPATH=".")
        for _ in range(2)
    )
    return {
        "samples": await asyncio.to_thread(
            watch, _job["redis"], _LEFT, _workers[0].check, job["seconds"]
        )
    }


def teardown(job: dict[str, Any]) -> None:
    """Stop the workers."""
    for worker in _workers:
        worker.stop()

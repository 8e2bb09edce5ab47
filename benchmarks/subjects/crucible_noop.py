"""A worker in this process, no-op tasks: its processor time from claim to settlement."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from redis.asyncio import Redis

from benchmarks.noop_worker import fill, registry
from crucible.worker.worker import Worker

_url = ""


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Note where the queue is."""
    global _url
    _url = job["redis"]
    return {"pid": os.getpid()}


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Work off so many tasks; processor seconds of all."""
    count = job["count"]
    async with Redis.from_url(_url) as redis:
        await redis.flushdb()
    await fill(_url, count)
    began = time.process_time()
    async with Worker(registry, broker_url=_url) as worker:
        while worker.settled < count:
            await asyncio.sleep(0.005)
        used_s = time.process_time() - began
    return {"count": count, "cpu_s": used_s}


def teardown(job: dict[str, Any]) -> None:
    """Nothing is open."""

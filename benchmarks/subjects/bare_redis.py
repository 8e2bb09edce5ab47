"""Bare Redis with one asyncio client: single LPUSHes, and LPUSH in pipelines of 100."""

from __future__ import annotations

import time
from typing import Any

from redis.asyncio import Redis

#: About the size of a no-op task message.
MESSAGE = b"x" * 900
PIPELINE = 100
_redis: Redis


def setup(job: dict[str, Any]) -> None:
    """Connect."""
    global _redis
    _redis = Redis.from_url(job["redis"])


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Push for some seconds, one at a time or in pipelines."""
    started, sent = time.perf_counter(), 0
    while time.perf_counter() - started < job["seconds"]:
        if job["pipelined"]:
            pipeline = _redis.pipeline(transaction=False)
            for _ in range(PIPELINE):
                pipeline.lpush("list", MESSAGE)
            await pipeline.execute()
            sent += PIPELINE
        else:
            await _redis.lpush("list", MESSAGE)
            sent += 1
    return {"sent": sent, "elapsed_s": time.perf_counter() - started}


async def teardown(job: dict[str, Any]) -> None:
    """Hang up."""
    await _redis.aclose()

"""Appends events of evaluations to the event bus: all at once, or so many evaluations a second."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis.asyncio import Redis

from benchmarks.history_events import EVENTS, events
from crucible.events.event import FORMAT, encode_event
from crucible.redis_keys import Keys

#: Entries of one pipeline, and seconds between two pipelines of a paced feed.
_PIPELINE, _TICK_S = 3000, 0.02
_redis: Redis


async def setup(job: dict[str, Any]) -> None:
    global _redis
    _redis = Redis.from_url(job["redis"])


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """``evaluations`` in all; ``rate`` a second, 0 for as fast as it goes."""
    made, left, rate = events(job["evaluations"]), job["evaluations"] * EVENTS, job["rate"]
    began, sent, late_s = time.perf_counter(), 0, 0.0
    while left:
        size = _PIPELINE
        if rate:
            await asyncio.sleep(_TICK_S)
            due = round((time.perf_counter() - began) * rate * EVENTS)
            size = due - sent
        size = min(size, left)
        async with _redis.pipeline(transaction=False) as pipe:
            for _, event in zip(range(size), made, strict=False):
                pipe.xadd(Keys().events, {FORMAT: encode_event(event)})
            await pipe.execute()
        sent, left = sent + size, left - size
        if rate:
            late_s = max(late_s, time.perf_counter() - began - sent / (rate * EVENTS))
    return {"events": sent, "elapsed_s": time.perf_counter() - began, "late_s": late_s}


async def teardown(job: dict[str, Any]) -> None:
    await _redis.aclose()

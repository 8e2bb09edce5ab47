"""Ten thousand waiters in one process: their cost, and how soon each gets its result."""

from __future__ import annotations

from redis.asyncio import Redis

from benchmarks.histogram import Histogram
from benchmarks.machine import rss_mb
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage

WAITERS = 10_000
LONGEST_S = 60.0


async def measure(stage: Stage, label: str) -> None:
    """Wait for that many results at once."""
    count = stage.bench.count(WAITERS, least=100)
    async with Redis.from_url(stage.redis) as redis:
        await redis.flushall()
    async with stage.driven(label) as process:
        idle_mb = rss_mb(process.pid)
        answer = await process.run(count=count, seconds=LONGEST_S)
        stage.record(label, "kb_a_waiter", (rss_mb(process.pid) - idle_mb) * 1024 / count)
    stage.record(label, "waiters_registered_per_s", count / answer["registered_s"])
    stage.record(label, "waiters_answered_per_s", count / answer["elapsed_s"])
    stage.latency(label, "stored_to_woken", Histogram.load(answer["latency"]))


SCENARIO = Scenario(
    name="wait",
    summary="ten thousand waiters in one process",
    subjects={"crucible": Subject("crucible_waiters")},
    open=redis_stage,
    measure=measure,
    turn_s=6.0,
)

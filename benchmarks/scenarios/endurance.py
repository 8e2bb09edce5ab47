"""A million no-op tasks through one worker process: its memory at the end, and its growth.

Messages are pushed a twentieth at a time, so that the queue server stays small, and results are
kept for half a minute only. Growth compares the last quarter with the second, as in the soak; the
first is warm-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.asyncio import Redis

from benchmarks.machine import descriptors, rss_mb
from benchmarks.scenario import Scenario, Subject, redis_stage
from benchmarks.scenarios.soak import growth
from benchmarks.scenarios.worker import fill

if TYPE_CHECKING:
    from benchmarks.scenario import Stage

TASKS = 1_000_000
PARTS = 20
LONGEST_S = 120.0


async def measure(stage: Stage, label: str) -> None:
    """Push a twentieth, wait until it is done, sample; repeat."""
    part = stage.bench.count(TASKS // PARTS, least=200)
    resident_mb: list[float] = []
    async with Redis.from_url(stage.redis) as redis:
        await redis.flushall()
    async with stage.driven(label) as worker:
        for _ in range(PARTS):
            await fill(stage.redis, part)
            (pid,) = (await worker.run(seconds=LONGEST_S))["pids"]
            resident_mb.append(rss_mb(pid))
        stage.record(label, "descriptors", descriptors(pid))
    stage.record(label, "tasks_count", part * PARTS)
    stage.record(label, "resident_mb", resident_mb[-1])
    stage.record(label, "resident_growth_share", growth(resident_mb) or 0.0)


SCENARIO = Scenario(
    name="endurance",
    summary="one worker's memory over a million no-op tasks",
    subjects={
        name: Subject(
            "crucible_worker",
            job={"events": events, "environment": {"CRUCIBLE_RESULT_TTL_S": "30"}},
        )
        for name, events in (("crucible", False), ("crucible events", True))
    },
    open=redis_stage,
    measure=measure,
    in_all=False,
    turn_s=180.0,
)

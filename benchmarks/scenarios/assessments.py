"""An assessment of thousands of cases, beside the same programs as a plain batch.

Programs take no time, so what is measured is the assessment itself: cases a second, the start of
small ones beside it, and memory. The batch is the limit of it: no plan, no statistics, no report.
``python -m benchmarks.assessments`` is the longer form.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from benchmarks.assessments import Installation, installation, post
from benchmarks.assessments import measure as run_assessment
from benchmarks.scenario import Bench, Scenario, Stage, Subject, plain_stage
from crucible.errors import RequirementError
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ASSESSMENT, BATCH = "assessment", "plain batch"
CASES, STARTS = 4000, 100
#: Items of one request, seconds between looks, and until all have to be done.
_PART, _LOOK_S, _PATIENCE_S = 1000, 0.05, 120.0


@asynccontextmanager
async def open_stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    """An api and a worker for all turns."""
    async with (
        plain_stage(bench, scenario) as stage,
        installation(bench.directory / scenario.name) as one,
    ):
        stage.more["installation"] = one
        yield stage


async def measure(stage: Stage, label: str) -> None:
    """One assessment, or one batch."""
    one: Installation = stage.more["installation"]
    cases = stage.bench.count(CASES, least=50)
    async with Redis.from_url(one.redis) as redis:
        if label == BATCH:
            stage.record(label, "cases_per_s", cases / await _batch(one, redis, cases))
            return
        starts = stage.bench.count(STARTS, least=5)
        found = await run_assessment(one.client, cases, starts, one.worker, one.api)
    if found["status"] != "completed":
        raise RequirementError(f"the assessment ended as {found['status']}")
    stage.record(label, "cases_per_s", cases / max(found["seconds"], _LOOK_S))
    for name in ("start_p50_ms", "start_p99_ms", "health_p99_ms"):
        stage.record(label, name, found[name])
    stage.record(label, "worker_mb", found["worker_rss_kb_most"] / 1024)
    stage.record(label, "api_mb", found["api_rss_kb_most"] / 1024)


async def _batch(one: Installation, redis: Redis, count: int) -> float:
    """Seconds from the first submission to the last result."""
    began_s, waiting = time.perf_counter(), []
    for at in range(0, count, _PART):
        items = [{"code": "print(1)"} for _ in range(min(_PART, count - at))]
        answer = await post(one.client, "/api/eval/batch", items)
        waiting += [Keys().result(item["task_id"]) for item in answer["items"]]
    async with asyncio.timeout(_PATIENCE_S):
        while waiting:
            stored = await redis.mget(waiting)
            waiting = [
                key
                for key, value in zip(waiting, stored, strict=True)
                if value is None or b'"SUCCESS"' not in value
            ]
            await asyncio.sleep(_LOOK_S if waiting else 0)
    return time.perf_counter() - began_s


SCENARIO = Scenario(
    name="assessments",
    summary="an assessment of thousands of cases beside a plain batch",
    subjects={label: Subject("") for label in (ASSESSMENT, BATCH)},
    open=open_stage,
    measure=measure,
    turn_s=5.0,
)

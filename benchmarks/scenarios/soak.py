"""Half load for a given time: memory, descriptors and keys must not grow.

``--seconds 3600`` is the hour of the target. Results are kept for half a minute only, so that the
number of keys is constant. Growth compares the last quarter with the second.
"""

from __future__ import annotations

import asyncio
import statistics
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from benchmarks.driven import Driven
from benchmarks.histogram import Histogram
from benchmarks.http_load import post
from benchmarks.machine import descriptors, rss_mb
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "/api/eval?wait=30"
BODIES = (b'{"code":"print(6 * 7)","language":"python"}',)
CONNECTIONS = 64
#: Number of samples, whatever the length.
SAMPLES = 40


async def measure(stage: Stage, label: str) -> None:
    """Find the highest rate, then hold half of it and sample."""
    async with (
        Redis.from_url(stage.redis) as redis,
        stage.driven(label) as service,
        Driven("load") as load,
    ):
        job = {"port": service.facts["port"], "request": post(PATH, BODIES[0])}
        reached = await load.run(**job, connections=CONNECTIONS, seconds=3.0, warmup_s=4.0)
        rate = max(0.5, reached["requests_per_s"] / 2)
        stage.record(label, "held_per_s", rate)
        looking = asyncio.create_task(_look(stage, redis, service))
        try:
            answer = await load.run(
                **job, connections=CONNECTIONS, seconds=stage.bench.seconds, rate=rate
            )
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
        stage.latency(label, "half_load", Histogram.load(answer["latency"]))
        _judge(stage, label)


async def _look(stage: Stage, redis: Redis, service: Driven) -> None:
    samples: dict[str, list[float]] = {}
    stage.more["samples"] = samples
    names = ("api", "worker")
    while True:
        for name, pid in zip(names, service.facts["pids"], strict=False):
            samples.setdefault(f"{name}_resident_mb", []).append(rss_mb(pid))
            samples.setdefault(f"{name}_descriptors", []).append(descriptors(pid))
        samples.setdefault("redis_keys", []).append(float(await redis.dbsize()))
        await asyncio.sleep(stage.bench.seconds / SAMPLES)


def _judge(stage: Stage, label: str) -> None:
    for name, values in stage.more["samples"].items():
        stage.record(label, name, values[-1])
        if (change := growth(values)) is not None:
            stage.record(label, f"{name}_growth_share", change)


def growth(values: Sequence[float]) -> float | None:
    """Relative growth from the second quarter to the last; the first is warm-up.

    None if there are too few samples for quarters.
    """
    quarter = len(values) // 4
    if not quarter:
        return None
    before = statistics.median(values[quarter : 2 * quarter])
    after = statistics.median(values[-quarter:])
    return after / before - 1 if before else 0.0


SCENARIO = Scenario(
    name="soak",
    summary="half load for as long as --seconds says",
    subjects={
        "no-op": Subject(
            "crucible_service",
            job={
                "tasks": "noop_eval:registry",
                "environment": {"CRUCIBLE_RESULT_TTL_S": "30"},
            },
        ),
        "sandboxes": Subject(
            "crucible_service", job={"environment": {"CRUCIBLE_RESULT_TTL_S": "30"}}
        ),
    },
    open=redis_stage,
    measure=measure,
    seconds=60.0,
    in_all=False,
    turn_s=90.0,
)

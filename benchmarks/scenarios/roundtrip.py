"""Submit to result over HTTP with an executor that does nothing: rate, and latency at fixed rates.

One server process, and two worker processes behind it.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from benchmarks.driven import Driven
from benchmarks.histogram import Histogram
from benchmarks.http_load import post
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage

CONNECTIONS = 64
BODY = b'{"code":"print(6 * 7)","language":"python"}'
FIXED_RATE = 100


async def measure(stage: Stage, label: str) -> None:
    """Closed loop, then open loops at a rate all subjects sustain and at half the rate reached."""
    async with Redis.from_url(stage.redis) as redis:
        await redis.flushall()
    async with stage.driven(label) as service, Driven("load") as load:
        await until_served(stage, label, service, load)
        answer = await _apply(stage, label, service, load)
        stage.record(label, "roundtrips_per_s", answer["requests_per_s"])
        rates = {"at_100_per_s": FIXED_RATE, "at_half_load": answer["requests_per_s"] / 2}
        for what, rate in rates.items():
            answer = await _apply(stage, label, service, load, rate=rate)
            stage.latency(label, what, Histogram.load(answer["latency"]))
        await service.run()


async def until_served(stage: Stage, label: str, service: Driven, load: Driven) -> None:
    """Workers take seconds to start: one round trip at a time until they answer."""
    await load.run(**_job(stage, label, service), connections=1, seconds=0.2, warmup_s=3.0)


def _job(stage: Stage, label: str, service: Driven) -> dict[str, Any]:
    path = stage.subjects[label].job["path"]
    return {"port": service.facts["port"], "request": post(path, BODY)}


async def _apply(
    stage: Stage, label: str, service: Driven, load: Driven, **more: Any
) -> dict[str, Any]:
    job = {"connections": CONNECTIONS, "seconds": stage.bench.seconds, **more}
    answer: dict[str, Any] = await load.run(**_job(stage, label, service), **job)
    total = sum(answer["statuses"].values()) + answer["missing"]
    ended = answer["statuses"].get("200", 0)
    stage.record(label, "error_share", (total - ended) / max(1, total))
    return answer


SCENARIO = Scenario(
    name="roundtrip",
    summary="submit to result with an executor that does nothing",
    subjects={
        "crucible": Subject(
            "crucible_service",
            job={"path": "/api/eval?wait=10", "tasks": "noop_eval:registry", "workers": 2},
        ),
        "fastapi+celery": Subject("fastapi_celery", "celery", {"path": "/api/run", "worker": True}),
    },
    open=redis_stage,
    measure=measure,
    seconds=2.0,
    turn_s=10.0,
)

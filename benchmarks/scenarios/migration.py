"""The legacy path compared with Celery's, through one api process in each mode of a migration.

Executors do nothing on either side, and each side has one worker process, so that only the queues
differ. Results of the legacy queue are polled for, Celery's are pushed.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from benchmarks.driven import Driven
from benchmarks.histogram import Histogram
from benchmarks.http_load import post
from benchmarks.machine import cpu_s
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage
from benchmarks.scenarios.submit import BODY, CONNECTIONS, WARM_UP_S

#: Requests per second of the open loops, which both sides can sustain.
SUBMIT_RATE, ROUNDTRIP_RATE = 200, 50
SUBMIT, ROUNDTRIP = "/api/eval", "/api/eval?wait=10"


async def measure(stage: Stage, label: str) -> None:
    """Round trips, then submissions, each in a closed loop and in an open one."""
    async with Redis.from_url(stage.redis) as redis:
        await redis.flushall()
    async with stage.driven(label) as service, Driven("load") as load:
        # Workers take seconds to start: one round trip at a time until they answer.
        await load.run(**_job(service, ROUNDTRIP), connections=1, seconds=0.2, warmup_s=3.0)
        for path, name, rate in (
            (ROUNDTRIP, "roundtrip", ROUNDTRIP_RATE),
            (SUBMIT, "submit", SUBMIT_RATE),
        ):
            before = cpu_s(service.facts["pid"])
            answer = await _apply(stage, label, service, load, path)
            used = cpu_s(service.facts["pid"]) - before
            stage.record(label, f"{name}s_per_s", answer["requests_per_s"])
            answered = sum(answer["statuses"].values())
            stage.record(label, f"{name}_api_cpu_us", 1e6 * used / max(1, answered))
            answer = await _apply(stage, label, service, load, path, rate=rate)
            what = f"{name}_at_{rate}_per_s"
            stage.latency(label, what, Histogram.load(answer["latency"]))
        await service.run()


def _job(service: Driven, path: str) -> dict[str, Any]:
    return {"port": service.facts["port"], "request": post(path, BODY)}


async def _apply(
    stage: Stage, label: str, service: Driven, load: Driven, path: str, **more: Any
) -> dict[str, Any]:
    job = {"connections": CONNECTIONS, "seconds": stage.bench.seconds, "warmup_s": WARM_UP_S}
    answer: dict[str, Any] = await load.run(**_job(service, path), **job, **more)
    total = sum(answer["statuses"].values()) + answer["missing"]
    # A round trip that takes longer than its wait is a 202, which is not an error.
    taken = answer["statuses"].get("202", 0) + answer["statuses"].get("200", 0)
    stage.record(label, "error_share", (total - taken) / max(1, total))
    return answer


def _mode(**environment: str) -> Subject:
    return Subject("crucible_migration", job={"environment": environment})


SCENARIO = Scenario(
    name="migration",
    summary="the legacy path and Celery's, in each mode of a migration",
    subjects={
        "legacy only": _mode(CELERY_PERCENTAGE="0.0"),
        "dual write": _mode(CRUCIBLE_DUAL_WRITE="true"),
        "split 50 %": _mode(CELERY_PERCENTAGE="0.5"),
        "celery primary": _mode(CELERY_PERCENTAGE="1.0"),
        "celery only": Subject("crucible_migration", job={"legacy": False}),
    },
    open=redis_stage,
    measure=measure,
    seconds=2.0,
    turn_s=8.0,
)

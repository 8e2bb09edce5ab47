"""Working off a queue of no-op tasks, results stored: tasks per second in the steady part.

Stock prefork has two processes (and a parent), Crucible two, every asyncio peer two; a single
process of Crucible is measured beside them. Nothing is pinned: workers and server share the
machine.
"""

from __future__ import annotations

from redis.asyncio import Redis

from benchmarks.machine import cpu_s, rss_mb
from benchmarks.rate import steady
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage
from crucible.broker.wire.encode import TaskTemplate
from crucible.broker.wire.ids import new_id

LONGEST_S = 60.0
_CHUNK = 1000


async def fill(url: str, count: int, queue: str = "celery") -> None:
    """Put ``count`` no-op messages into a list, byte for byte as stock producers write them."""
    template = TaskTemplate("bench.noop", queue, ignore_result=False)
    async with Redis.from_url(url) as redis:
        for start in range(0, count, _CHUNK):
            numbers = range(start, min(start + _CHUNK, count))
            await redis.lpush(queue, *[template.render(new_id(), [n], {}) for n in numbers])


async def measure(stage: Stage, label: str) -> None:
    """Fill the queue, start the workers, and sample until it is empty."""
    job = stage.subjects[label].job
    count = stage.bench.count(int(job["pace_per_s"] * stage.bench.seconds), least=200)
    count -= count % 100
    async with Redis.from_url(stage.redis) as redis:
        await redis.flushall()
    if job.get("stock_wire"):
        await fill(stage.redis, count)
    before = cpu_s(stage.redis_pid)
    async with stage.driven(label) as workers:
        answer = await workers.run(what="work", count=count, seconds=LONGEST_S)
        for pid in answer.get("pids", [])[:1]:
            stage.record(label, "resident_mb", rss_mb(pid))
    work = steady(answer["samples"], count)
    redis_us = (cpu_s(stage.redis_pid) - before) / count * 1e6
    stage.record(label, "tasks_per_s", work.per_s)
    # The rate of a dedicated machine: processor time hardly depends on other load.
    stage.record(label, "tasks_per_cpu_s", 1e6 / (work.cpu_us + redis_us))
    stage.record(label, "worker_cpu_us", work.cpu_us)
    stage.record(label, "redis_cpu_us", redis_us)


def _stock(**job: object) -> Subject:
    defaults = {"pool": "prefork", "concurrency": 2, "pace_per_s": 800, "stock_wire": True}
    return Subject("celery_worker", "celery", {**defaults, **job})


def _crucible(**job: object) -> Subject:
    defaults = {"processes": 2, "pace_per_s": 25_000, "stock_wire": True}
    return Subject("crucible_worker", job={**defaults, **job})


SCENARIO = Scenario(
    name="worker",
    summary="no-op tasks through workers",
    subjects={
        "celery prefork": _stock(),
        "crucible": _crucible(),
        "crucible one process": _crucible(processes=1, pace_per_s=15_000),
        "celery prefork events": _stock(events=True),
        "crucible events": _crucible(events=True, pace_per_s=15_000),
        "celery prefork tuned": _stock(prefetch=128),
        "celery threads": _stock(pool="threads", concurrency=10),
        "arq": Subject("arq_queue", "arq", {"pace_per_s": 500}),
        "saq": Subject("saq_queue", "saq", {"pace_per_s": 800}),
        "streaq": Subject("streaq_queue", "streaq", {"pace_per_s": 500}),
        "taskiq": Subject("taskiq_queue", "taskiq", {"pace_per_s": 600}),
    },
    open=redis_stage,
    measure=measure,
    seconds=2.0,
    turn_s=6.0,
)

"""Sending many tasks from one process: rate, and processor time of the sender per message.

Over HTTP the sender is the api, and its client has the other processors.
"""

from __future__ import annotations

import os

from redis.asyncio import Redis

from benchmarks.append_only import emptied
from benchmarks.machine import cores_apart, cpu_s
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage

WARM_UP_S = 0.3


async def measure(stage: Stage, label: str) -> None:
    """Send into an empty server; the sender has one processor to itself."""
    mine, others = cores_apart()
    os.sched_setaffinity(stage.redis_pid, others)
    async with Redis.from_url(stage.redis) as redis:
        # What the subject before has left to rewrite is not this one's.
        await emptied(redis)
    single = stage.subjects[label].job.get("single", False)
    async with stage.driven(label, cores=mine) as producer:
        await producer.run(what="enqueue", seconds=WARM_UP_S, single=single)
        # Of an api the client is another process.
        sender = (producer.facts or {}).get("pid", producer.pid)
        before = cpu_s(sender)
        answer = await producer.run(what="enqueue", seconds=stage.bench.seconds, single=single)
        used = cpu_s(sender) - before
    stage.record(label, "messages_per_s", answer["sent"] / answer["elapsed_s"])
    stage.record(label, "sender_cpu_us", used / answer["sent"] * 1e6)


SCENARIO = Scenario(
    name="batch",
    summary="sending many tasks from one process",
    subjects={
        "celery send_task": Subject("celery_producer", "celery"),
        "crucible send_batch": Subject("crucible_producer"),
        "crucible send_task x100": Subject("crucible_producer", job={"single": True}),
        "crucible http batch": Subject("crucible_http_batch"),
        "arq x100": Subject("arq_queue", "arq"),
        "saq x100": Subject("saq_queue", "saq"),
        "streaq enqueue_many": Subject("streaq_queue", "streaq"),
        "taskiq x100": Subject("taskiq_queue", "taskiq"),
    },
    open=redis_stage,
    measure=measure,
    seconds=1.5,
    turn_s=2.6,
)

"""Upper bounds of this machine: the generator, a bare handler, bare Redis, bare Docker."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.driven import Driven
from benchmarks.http_load import post
from benchmarks.machine import cores_apart
from benchmarks.scenario import Bench, Scenario, Stage, Subject, redis_stage
from benchmarks.scenarios.submit import BODY, CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def _stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    async with redis_stage(bench, scenario) as stage:
        os.sched_setaffinity(stage.redis_pid, cores_apart()[1])
        yield stage


async def measure(stage: Stage, label: str) -> None:
    """Measure the rate of one bound."""
    subject = stage.subjects[label]
    mine, others = cores_apart()
    if subject.job.get("http"):
        async with stage.driven(label, cores=mine) as server, Driven("load", cores=others) as load:
            answer = await load.run(
                port=server.facts["port"],
                request=post("/api/eval", BODY),
                connections=CONNECTIONS,
                seconds=stage.bench.seconds,
            )
        stage.record(label, "requests_per_s", answer["requests_per_s"])
        return
    cores = None if subject.job.get("docker") else mine
    async with stage.driven(label, cores=cores) as process:
        answer = await process.run(
            seconds=stage.bench.seconds, pipelined=subject.job.get("pipelined", False)
        )
    unit = "containers" if subject.job.get("docker") else "messages"
    stage.record(label, f"{unit}_per_s", answer["sent"] / answer["elapsed_s"])


SCENARIO = Scenario(
    name="limits",
    summary="bare limits of this machine",
    subjects={
        "load generator": Subject("bare_responder", job={"http": True}),
        "bare aiohttp": Subject("bare_aiohttp", job={"http": True}),
        "redis lpush": Subject("bare_redis"),
        "redis lpush pipelined": Subject("bare_redis", job={"pipelined": True}),
        "docker create": Subject("bare_docker", job={"docker": True, "cycle": "create"}),
        "docker restart": Subject("bare_docker", job={"docker": True, "cycle": "restart"}),
    },
    open=_stage,
    measure=measure,
    seconds=2.0,
    turn_s=3.5,
)

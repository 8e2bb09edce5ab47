"""Submissions through one and two api processes on all cores (``worker`` has the same for workers).

Nothing is pinned; each api process has its own load generator, and all share the machine.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from redis.asyncio import Redis

from benchmarks.driven import Driven
from benchmarks.http_load import post
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage
from benchmarks.scenarios.submit import BODY, CONNECTIONS


async def measure(stage: Stage, label: str) -> None:
    """A closed loop on every api process at the same time."""
    async with Redis.from_url(stage.redis) as redis:
        await redis.flushall()
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(stage.driven(label))
        ports = service.facts["ports"]
        loads = [await stack.enter_async_context(Driven("load")) for _ in ports]
        answers = await asyncio.gather(
            *(
                load.run(
                    port=port,
                    request=post("/api/eval", BODY),
                    connections=CONNECTIONS // len(ports),
                    seconds=stage.bench.seconds,
                )
                for load, port in zip(loads, ports, strict=True)
            )
        )
        stage.record(
            label, "submissions_per_s", sum(answer["requests_per_s"] for answer in answers)
        )


SCENARIO = Scenario(
    name="processes",
    summary="api processes on all cores",
    subjects={
        "one api": Subject("crucible_service", job={"apis": 1, "workers": 0}),
        "two apis": Subject("crucible_service", job={"apis": 2, "workers": 0}),
    },
    open=redis_stage,
    measure=measure,
    seconds=2.0,
    turn_s=6.0,
)

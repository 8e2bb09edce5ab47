"""What history, metrics, events and traces cost the submission path: ``bench submit --features``.

All servers run side by side on one processor, and get the load in turns of seconds: what else the
machine does meets each of them alike. Judged is the processor time of the api for each submission
at a rate that all of them sustain: at their highest rates one that is slowed down by a busy queue
server sends smaller batches, which cost more each. The highest rates are shown beside it;
historian, load generator and queue server share a processor there.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from redis.asyncio import Redis

from benchmarks.append_only import emptied
from benchmarks.driven import Driven
from benchmarks.http_load import post
from benchmarks.machine import cores_apart, cpu_s
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage
from benchmarks.scenarios.submit import BODY, CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.scenario import Bench

#: Submissions a second that every subject sustains, on a busy machine too.
RATE = 1500
#: Share of a turn that goes to the closed loop.
CLOSED = 0.25
OFF, EVENTS, ALL = "off", "history+metrics+events", "all with 1 % traces"


@asynccontextmanager
async def servers_stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    """A queue server, and an api for each subject, all at once."""
    mine, others = cores_apart()
    async with redis_stage(bench, scenario) as stage, AsyncExitStack() as stack:
        os.sched_setaffinity(stage.redis_pid, others)
        for label in stage.subjects:
            job = {"directory": str(bench.directory)}
            server = await stack.enter_async_context(stage.driven(label, job=job, cores=others))
            os.sched_setaffinity(server.facts["pid"], mine)
            stage.more[label] = server
        stage.more["load"] = await stack.enter_async_context(Driven("load", cores=others))
        yield stage


async def measure(stage: Stage, label: str) -> None:
    """One turn of one server: its highest rate, then processor time at the rate of all."""
    async with Redis.from_url(stage.redis) as redis:
        await emptied(redis)
    server = stage.more[label]
    await server.run()  # all of its processes live
    answer = await _load(stage, server, seconds=CLOSED * stage.bench.seconds)
    stage.record(label, "submissions_per_s", answer["requests_per_s"])
    pid = server.facts["pid"]
    before_s = cpu_s(pid)
    if label != OFF:
        # Once a turn, several times as often as Prometheus is configured to in deploy/prometheus/.
        await _scrape(server.facts["port"])
    answer = await _load(stage, server, rate=RATE, seconds=stage.bench.seconds)
    used_s = cpu_s(pid) - before_s
    answered, accepted = sum(answer["statuses"].values()), answer["statuses"].get("202", 0)
    stage.record(label, "at_1500_per_s_cpu_us", 1e6 * used_s / max(1, answered))
    stage.record(label, "error_share", 1 - accepted / max(1, answered + answer["missing"]))


async def _load(stage: Stage, server: Driven, **more: Any) -> dict[str, Any]:
    request = post("/api/eval", BODY)
    load: Driven = stage.more["load"]
    answer: dict[str, Any] = await load.run(
        port=server.facts["port"], request=request, connections=CONNECTIONS, **more
    )
    return answer


async def _scrape(port: int) -> None:
    """Read the metrics as Prometheus does."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        await response.read()


SCENARIO = Scenario(
    name="features",
    summary="what history, metrics, events and traces cost submissions",
    subjects={
        OFF: Subject("crucible_features", job={"features": []}),
        EVENTS: Subject("crucible_features", job={"features": ["history"]}),
        ALL: Subject("crucible_features", job={"features": ["history", "traces"]}),
    },
    open=servers_stage,
    measure=measure,
    seconds=4.0,
    in_all=False,
)

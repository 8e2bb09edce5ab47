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

from benchmarks.append_only import rewritten
from benchmarks.budget_paths import processor_s
from benchmarks.driven import Driven
from benchmarks.http_load import post
from benchmarks.machine import cores_apart
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage
from benchmarks.scenarios.submit import BODY, CONNECTIONS
from crucible.redis_keys import KEYS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.scenario import Bench

#: Submissions a second that every subject sustains, on a busy machine too.
RATE = 1500
#: Share of a turn that goes to the closed loop.
CLOSED = 0.25
#: A subject without them, one for each, and one with all that the target is about.
OFF, EVENTS, HISTORY = "off", "events", "events+history+metrics"
CLIENT_KEYS, TRACES, ALL = "keys and rates", "1 % traces", "history+metrics+events+1 % traces"


@asynccontextmanager
async def servers_stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    """A queue server, and an api for each subject that is measured, until the end."""
    _, others = cores_apart()
    async with redis_stage(bench, scenario) as stage, AsyncExitStack() as stack:
        os.sched_setaffinity(stage.redis_pid, others)
        stage.more["servers"] = stack
        stage.more["load"] = await stack.enter_async_context(Driven("load", cores=others))
        yield stage


async def _server(stage: Stage, label: str) -> Driven:
    """The server of a subject; it is started for its first turn."""
    if label not in stage.more:
        mine, others = cores_apart()
        # Each has a database of its own: the keys of one are none of another's.
        number = list(stage.subjects).index(label)
        redis = f"{stage.redis.rpartition('/')[0]}/{number}"
        job = {"directory": str(stage.bench.directory), "redis": redis}
        starting = stage.driven(label, job=job, cores=others)
        server = await stage.more["servers"].enter_async_context(starting)
        os.sched_setaffinity(server.facts["pid"], mine)
        stage.more[label] = server
    found: Driven = stage.more[label]
    return found


async def measure(stage: Stage, label: str) -> None:
    """One turn of one server: its highest rate, then processor time at the rate of all."""
    server = await _server(stage, label)
    await _emptied(server.facts["redis"])
    await server.run()  # all of its processes live
    answer = await _load(stage, server, seconds=CLOSED * stage.bench.seconds)
    stage.record(label, "submissions_per_s", answer["requests_per_s"])
    pid = server.facts["pid"]
    before_s = processor_s(pid)
    if "metrics" in stage.subjects[label].job["features"]:
        # Once a turn, several times as often as Prometheus is configured to in deploy/prometheus/.
        await _scrape(server.facts["port"])
    answer = await _load(stage, server, rate=RATE, seconds=stage.bench.seconds)
    used_s = processor_s(pid) - before_s
    answered, accepted = sum(answer["statuses"].values()), answer["statuses"].get("202", 0)
    stage.record(label, "at_1500_per_s_cpu_us", 1e6 * used_s / max(1, answered))
    stage.record(label, "error_share", 1 - accepted / max(1, answered + answer["missing"]))


async def _emptied(url: str) -> None:
    """Delete everything of a database but its keys of clients, and rewrite the file."""
    async with Redis.from_url(url) as redis:
        found: list[Any] = await redis.keys()
        names = [name for name in found if not name.startswith(KEYS.encode())]
        for first in range(0, len(names), 1000):
            await redis.unlink(*names[first : first + 1000])
        await rewritten(redis)
        await redis.bgrewriteaof()
        await rewritten(redis)


async def _load(stage: Stage, server: Driven, **more: Any) -> dict[str, Any]:
    request = post("/api/eval", BODY, server.facts["fields"])
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


def _subject(*features: str) -> Subject:
    return Subject("crucible_features", job={"features": features})


SCENARIO = Scenario(
    name="features",
    summary="what history, metrics, events and traces cost submissions",
    subjects={
        OFF: _subject(),
        EVENTS: _subject("events"),
        HISTORY: _subject("events", "history", "metrics"),
        CLIENT_KEYS: _subject("keys"),
        TRACES: _subject("traces"),
        ALL: _subject("events", "history", "metrics", "traces"),
    },
    open=servers_stage,
    measure=measure,
    seconds=4.0,
    turn_s=8.0,
)

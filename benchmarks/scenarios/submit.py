"""HTTP submissions, one server process: rate in a closed loop, latency in an open one.

The server has one processor to itself; the load generator and the queue server share the rest. Half
of the rate that Crucible reached is sent to bare servers too, right after it: their P99 is the part
of the machine and the generator. If a bare handler cannot sustain that rate, its latencies show it.
"""

from __future__ import annotations

import os
from typing import Any

from redis.asyncio import Redis

from benchmarks.append_only import emptied
from benchmarks.driven import Driven
from benchmarks.histogram import Histogram
from benchmarks.http_load import post
from benchmarks.machine import cores_apart, cpu_s, rss_mb
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage

CONNECTIONS = 64
BODY = b'{"code":"print(6 * 7)","language":"python"}'
#: Requests per second of the open loop, and the share of the rate reached that counts as half load.
FIXED_RATE = 500
#: Bare servers that get the open loop at half of Crucible's rate too: an aiohttp handler, and a
#: responder of constant bytes, which shows the latency of machine and generator alone.
LIMITS = {"bare aiohttp": "bare_aiohttp", "constant bytes": "bare_responder"}
#: Seconds of warm-up before responses of a closed loop count; the default of ``Load``.
WARM_UP_S = 0.5


async def measure(stage: Stage, label: str) -> None:
    """Closed loop, then open loops at a rate all subjects sustain and at half the rate reached."""
    mine, others = cores_apart()
    os.sched_setaffinity(stage.redis_pid, others)
    async with Redis.from_url(stage.redis) as redis:
        await emptied(redis)
    async with (
        stage.driven(label, cores=mine) as server,
        Driven("load", cores=others) as load,
    ):
        reached = await _closed(stage, label, server, load)
        await _open(stage, label, "at_500_per_s", server, load, FIXED_RATE)
        await _open(stage, label, "at_half_load", server, load, reached / 2)
        pid = server.facts.get("pid", server.pid)
        stage.record(label, "resident_mb", rss_mb(pid))
    if stage.subjects[label].job.get("limits"):
        for name, subject in LIMITS.items():
            await _limit(stage, name, subject, reached / 2)


async def _limit(stage: Stage, name: str, subject: str, rate: float) -> None:
    """A bare server at half of Crucible's rate, right after it: the part of the tail not ours."""
    mine, others = cores_apart()
    async with Driven(subject, cores=mine) as server, Driven("load", cores=others) as load:
        answer = await load.run(**_load(server, seconds=stage.bench.seconds, rate=rate))
    stage.record(name, "at_our_half_load_per_s", rate)
    stage.record(name, "at_our_half_load_missing", answer["missing"])
    stage.latency(name, "at_our_half_load", Histogram.load(answer["latency"]))


async def _closed(stage: Stage, label: str, server: Driven, load: Driven) -> float:
    """Measure its highest rate, per second."""
    pids = {"server": server.pid, "load": load.pid, "redis": stage.redis_pid}
    before = {who: cpu_s(pid) for who, pid in pids.items()}
    answer = await load.run(**_load(server, seconds=stage.bench.seconds))
    used = {who: cpu_s(pid) - before[who] for who, pid in pids.items()}
    _check(stage, label, answer)
    stage.record(label, "submissions_per_s", answer["requests_per_s"])
    # The warm-up's responses are included in the statuses and in the processor time.
    answered = sum(answer["statuses"].values())
    stage.record(label, "submissions_per_cpu_s", answered / max(used["server"], 0.01))
    for who, seconds in used.items():
        stage.record(label, f"cpu_{who}_share", seconds / (stage.bench.seconds + WARM_UP_S))
    return float(answer["requests_per_s"])


async def _open(
    stage: Stage, label: str, what: str, server: Driven, load: Driven, rate: float
) -> None:
    answer = await load.run(**_load(server, seconds=stage.bench.seconds, rate=rate))
    _check(stage, label, answer)
    stage.latency(label, what, Histogram.load(answer["latency"]))


def _load(server: Driven, **more: Any) -> dict[str, Any]:
    request = post("/api/eval", BODY)
    return {"port": server.facts["port"], "request": request, "connections": CONNECTIONS, **more}


def _check(stage: Stage, label: str, answer: dict[str, Any]) -> None:
    """The number of responses other than 202; the client's requests are valid."""
    total = sum(answer["statuses"].values()) + answer["missing"]
    accepted = answer["statuses"].get("202", 0)
    stage.record(label, "error_share", (total - accepted) / max(1, total))


SCENARIO = Scenario(
    name="submit",
    summary="HTTP submissions on one server process",
    subjects={
        "bare aiohttp": Subject("bare_aiohttp"),
        "crucible": Subject("crucible_api", job={"limits": True}),
        "fastapi+celery": Subject("fastapi_celery", "celery"),
    },
    open=redis_stage,
    measure=measure,
    seconds=2.0,
    turn_s=7.5,
)

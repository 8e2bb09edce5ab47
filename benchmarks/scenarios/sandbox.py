"""Programs in containers and lanes: rate beside a bare Docker loop, and end-to-end latency.

Crucible's rate is that of evaluations submitted over HTTP, run by one worker in its warm pool and
answered to the waiting client; latency is measured on the same way at half of that rate, until all
repeats together have two hundred samples. The P99 that is judged is that of all of them: one
repeat's would be nearly its highest. Beside it stands the share of programs that found no sandbox
ready: a latency without misses is the way's, one with them the pool's. The bare
loop restarts stopped read-only containers, two at once, reads what each wrote, and does nothing
else. Lanes are also given mixed loads: many tenants taking turns, where lanes are restarted as they
go from one to another, and now and then a program that sleeps.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from benchmarks.driven import Driven
from benchmarks.histogram import Histogram
from benchmarks.http_load import post
from benchmarks.scenario import Bench, Scenario, Stage, Subject, redis_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BODY = b'{"code":"print(6 * 7)","language":"python"}'
PATH = "/api/eval?wait=30"
CONNECTIONS = 8
#: Latencies at half load, all repeats together: fewer do not determine a P99.
SAMPLES = 220
#: Longest time for half load, seconds, however slow the machine.
LONGEST_S = 40.0
#: Seconds a pool may take to fill before the first measurement.
FILL_S = 4.0
#: Seconds between two times that a worker tells what it counted, and that it may take for all.
TOLD_S = 2.0
COUNTED_S = 10.0
_TAKEN = re.compile(r'^sandboxes_taken_total\{outcome="(\w+)"\} (\S+)$', re.MULTILINE)


#: An executor of lanes: no containers of one program are kept ready beside them.
NESTED: dict[str, Any] = {
    "config": {"isolation": "nested", "pool_min": 0},
    "program": {"isolation": "nested"},
}


@asynccontextmanager
async def _stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    async with redis_stage(bench, scenario) as stage:
        yield stage


async def measure(stage: Stage, label: str) -> None:
    """Measure the rate of one subject; for Crucible also the latency at half of it."""
    if stage.subjects[label].job.get("whole_way"):
        await _whole_way(stage, label)
        return
    async with stage.driven(label) as process:
        seconds = stage.bench.seconds
        answer = await process.run(seconds=seconds)
        reached = answer["sent"] / answer["elapsed_s"]
        stage.record(label, "programs_per_s", reached)
        if stage.subjects[label].job.get("half_load"):
            rate = max(0.5, reached / 2)
            answer = await process.run(seconds=_half_load_s(stage, rate), rate=rate)
            stage.latency(label, "at_half_load", Histogram.load(answer["latency"]))
            if "miss_share" in answer:
                stage.record(label, "at_half_load_miss_share", answer["miss_share"])


async def _whole_way(stage: Stage, label: str) -> None:
    async with stage.driven(label) as service, Driven("load") as load:
        job: dict[str, Any] = {"port": service.facts["port"], "request": post(PATH, BODY)}
        seconds = stage.bench.seconds
        answer = await load.run(**job, connections=CONNECTIONS, seconds=seconds, warmup_s=FILL_S)
        reached = answer["requests_per_s"]
        stage.record(label, "programs_per_s", reached)
        rate = max(0.5, reached / 2)
        # The last of the saturated phase, all of which waited, are not to be counted below.
        await asyncio.sleep(TOLD_S)
        before = await _sandboxes_taken(job["port"])
        answer = await load.run(
            **job, connections=64, seconds=_half_load_s(stage, rate), warmup_s=2.0, rate=rate
        )
        stage.latency(label, "at_half_load", Histogram.load(answer["latency"]))
        total = sum(answer["statuses"].values()) + answer["missing"]
        answered = answer["statuses"].get("200", 0)
        taken = await _sandboxes_taken(job["port"], before.total() + answered) - before
        stage.record(label, "at_half_load_miss_share", taken["miss"] / max(1, taken.total()))
        stage.record(label, "error_share", 1 - answered / max(1, total))
        await service.run()


async def _sandboxes_taken(port: int, awaited: int = 0) -> Counter[str]:
    """Programs that found a sandbox ready, and that did not, as the api shows them.

    Workers tell it once a second: until ``awaited`` of them are counted it is asked again.
    """
    async with aiohttp.ClientSession() as session, asyncio.timeout(COUNTED_S):
        while True:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                text = await answer.text()
            taken = Counter({name: int(float(value)) for name, value in _TAKEN.findall(text)})
            if taken.total() >= awaited:
                return taken
            await asyncio.sleep(0.2)


def _half_load_s(stage: Stage, rate: float) -> float:
    """Seconds until this repeat has its share of the samples."""
    wanted = stage.bench.count(SAMPLES, least=1) / stage.bench.repeats
    return min(LONGEST_S, max(stage.bench.seconds, wanted / rate))


SCENARIO = Scenario(
    name="sandbox",
    summary="programs in fresh containers, and in lanes",
    subjects={
        "bare restart": Subject("bare_docker", job={"cycle": "restart"}),
        "crucible warm": Subject("crucible_service", job={"whole_way": True}),
        "bare probe": Subject("bare_warm", job={"half_load": True}),
        "crucible executor": Subject("crucible_executor", job={"half_load": True}),
        "crucible cold": Subject(
            "crucible_executor", job={"config": {"pool_min": 0, "max_uses": 1}}
        ),
        "crucible nested": Subject(
            "crucible_service",
            job={
                "whole_way": True,
                # Two slots, the default here, wait for claims a part of the time.
                "environment": {"CRUCIBLE_ISOLATION": "nested", "CRUCIBLE_CONCURRENCY": "4"},
            },
        ),
        "nested executor": Subject(
            "crucible_executor", job={**NESTED, "at_once": 4, "half_load": True}
        ),
        "nested 16 tenants": Subject("crucible_executor", job={**NESTED, "tenants": 16}),
        "nested one in 64 long": Subject("crucible_executor", job={**NESTED, "long_one_in": 64}),
        "bare create": Subject("bare_docker", job={"cycle": "create"}),
        "epicbox": Subject("epicbox_docker", "epicbox"),
        "llm-sandbox pool": Subject("llm_sandbox_pool", "llm-sandbox"),
    },
    open=_stage,
    measure=measure,
    seconds=3.0,
    turn_s=12.0,
)

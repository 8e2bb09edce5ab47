"""Twenty tests in one request, and the same twenty programs in requests of their own.

Processor time is that of the whole machine, since most is of engine and kernel: nothing else
may run meanwhile. It is measured over rounds of twenty after one that warms up.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import psutil
from redis.asyncio import Redis

from benchmarks.scenario import Scenario, Stage, Subject, redis_stage
from crucible.errors import RequirementError

TESTS = 20
CODE = "a, b = map(int, input().split())\nprint(a + b)"
INPUTS = [(f"{n} {n * n}\n", f"{n + n * n}\n") for n in range(TESTS)]


async def measure(stage: Stage, label: str) -> None:
    """Rounds of twenty, one after the other."""
    async with Redis.from_url(stage.redis) as redis:
        await redis.flushall()
    together = bool(stage.subjects[label].job["together"])
    async with stage.driven(label) as service:
        base = f"http://127.0.0.1:{service.facts['port']}"
        async with aiohttp.ClientSession(base) as client:
            await _round(client, together=together)
            rounds, used_s, started_s = 0, busy_s(), time.perf_counter()
            while time.perf_counter() - started_s < stage.bench.seconds:
                await _round(client, together=together)
                rounds += 1
            elapsed_s = time.perf_counter() - started_s
            # Containers are emptied and removed after the answer, which belongs to it.
            await asyncio.sleep(min(1.0, stage.bench.seconds))
            used_s = busy_s() - used_s
        stage.record(label, "cpu_ms_per_20_tests", used_s / rounds * 1000)
        stage.record(label, "ms_per_20_tests", elapsed_s / rounds * 1000)
        await service.run()


async def _round(client: aiohttp.ClientSession, *, together: bool) -> None:
    """Twenty programs, all of them right."""
    if together:
        tests = [{"stdin": given, "expected": answer} for given, answer in INPUTS]
        view = await ended(client, {"code": CODE, "tests": tests})
        good = view["verdict"] == "accepted"
    else:
        views = await asyncio.gather(
            *(ended(client, {"code": CODE, "stdin": given}) for given, _ in INPUTS)
        )
        pairs = zip(views, INPUTS, strict=True)
        good = all(view["output"] == answer for view, (_, answer) in pairs)
    if not good:
        raise RequirementError("a program did not end as it must")


async def ended(client: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    """What became of one submission.

    Raises:
        RequirementError: it was refused, or did not end in a minute.
    """
    async with client.post("/api/eval?wait=60", json=body) as response:
        view: dict[str, Any] = await response.json()
    if response.status != 200:
        raise RequirementError(f"the api answered {response.status}: {view}")
    return view


def busy_s() -> float:
    """Processor seconds of the machine since its start."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _subject(isolation: str, *, together: bool) -> Subject:
    environment = {"CRUCIBLE_ISOLATION": isolation, "CRUCIBLE_CONCURRENCY": "4"}
    return Subject("crucible_service", job={"together": together, "environment": environment})


SCENARIO = Scenario(
    name="grading",
    summary="20 tests in one request against twenty requests",
    subjects={
        "twenty requests": _subject("container", together=False),
        "one request": _subject("container", together=True),
        "twenty nested requests": _subject("nested", together=False),
        "one nested request": _subject("nested", together=True),
    },
    open=redis_stage,
    measure=measure,
    seconds=3.0,
    turn_s=7.0,
)

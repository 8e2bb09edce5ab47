"""The same assessment through workers of either kind, and through their deaths."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from stock_rig.environments import PROJECT
from stock_rig.worker import StockWorker
from support.api_rig import running_api
from support.assessment_rig import Programs, ask, case, serving, started, until
from support.patience import PATIENCE_S
from support.sandboxes import children_of
from support.worker_rig import async_worker, stock_worker

if TYPE_CHECKING:
    import aiohttp
    from redis.asyncio import Redis
    from stock_rig.child import Child

pytestmark = pytest.mark.timeout(400)

#: A claim of a dead stock worker goes back after this many seconds; nothing here runs for longer.
VISIBILITY_S = "6"
CASES: list[dict[str, Any]] = [
    *({"id": f"ok-{n}", "code": f"print({n})"} for n in range(12)),
    {"id": "exit", "code": "raise SystemExit(3)", "repetitions": 2},
    {"id": "shell", "code": "kill -9 $$", "language": "bash"},
    {
        "id": "tests",
        "code": "print(abs(int(input())))",
        "tests": [{"stdin": "1", "expected": "1"}, {"stdin": "-1", "expected": "-1"}],
    },
]
RUNS = len(CASES) + 1
EXPECTED = {
    **{f"ok-{n}": ("ok", 1.0) for n in range(12)},
    "exit": ("nonzero_exit", 0.0),
    "shell": ("signalled", 0.0),
    "tests": ("wrong_answer", 0.5),
}


def worker(kind: str, url: str) -> Child:
    if kind == "async":
        return async_worker(url, CRUCIBLE_VISIBILITY_TIMEOUT_S=VISIBILITY_S)
    return stock_worker(url, environment={"CRUCIBLE_VISIBILITY_TIMEOUT_S": VISIBILITY_S})


async def reported(client: aiohttp.ClientSession, href: str) -> dict[str, tuple[str, float]]:
    """The report apart from its timings."""
    found = await until(client, href)
    assert found["status"] == "completed", found
    assert (found["runs"], found["runs_ended"], found["passed_cases"]) == (RUNS, RUNS, 12)
    _, report = await ask(client, "GET", found["report"])
    assert report["summary"]["runs"] == RUNS
    return {one["id"]: (one["verdict"], one["score"]) for one in report["cases"]}


@pytest.mark.parametrize("kinds", [["stock"], ["async", "stock"]], ids="-".join)
async def test_any_fleet_gives_the_same_report(redis_url: str, kinds: list[str]) -> None:
    """Only stock, and both beside each other; only async is in the other tests."""
    async with running_api(redis_url) as client, AsyncExitStack() as stack:
        for kind in kinds:
            await stack.enter_async_context(worker(kind, redis_url))
        href = await started(client, cases=CASES, isolation="nested")
        assert await reported(client, href) == EXPECTED


@pytest.mark.parametrize("kinds", [["async", "async"], ["stock", "async"]], ids="-".join)
async def test_deaths_change_nothing(redis_url: str, redis: Redis, kinds: list[str]) -> None:
    """SIGKILL at instants nobody chose: each run counts once, and the progress never falls.

    But never while a stock worker has popped a message and not noted it: that loses the message.
    """
    chosen = random.Random(7)
    async with running_api(redis_url) as client:
        href = await started(client, cases=CASES, isolation="nested")
        watching = asyncio.create_task(_progresses(client, href))
        for kind in kinds:
            async with worker(kind, redis_url) as process:
                await _moved(client, href)
                await asyncio.sleep(chosen.uniform(0, 0.4))
                if kind == "stock":
                    await _stopped_between_pops(process.pid, redis)
                os.kill(process.pid, signal.SIGKILL)
                await process.wait(PATIENCE_S)
        async with worker("async", redis_url):
            assert await reported(client, href) == EXPECTED
        seen = await watching
        assert seen == sorted(seen)
        assert seen[-1] == 100


async def test_a_dead_prefork_child_fails_nothing(redis_url: str) -> None:
    """Its worker lives and gives the message back; no claim runs out within the test."""
    async with running_api(redis_url) as client:
        stock = StockWorker(
            PROJECT,
            redis_url,
            queues=["assessments"],
            pool="prefork",
            concurrency=1,
            app="crucible.celery_app",
            environment={"CELERY_BROKER_URL": redis_url},
        )
        async with stock as process:
            href = await started(client, cases=[case(), case()])
            await until(client, href, "running")
            (child,) = children_of(process.pid)
            os.kill(child, signal.SIGKILL)
            async with serving(redis_url, Programs()):
                found = await until(client, href)
    assert (found["status"], found["runs_ended"], found["passed"]) == ("completed", 2, True)


async def _stopped_between_pops(pid: int, redis: Redis) -> None:
    """Stop a stock worker where it waits for a message: all that it took before is in ``unacked``.

    Nobody else sends BRPOP here. A connection that has sent it and does not wait has its answer.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            os.kill(pid, signal.SIGSTOP)
            popping = [one for one in await redis.client_list() if one["cmd"] == "brpop"]
            if popping and all("b" in one["flags"] for one in popping):
                return
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.005)


async def _moved(client: aiohttp.ClientSession, href: str) -> None:
    """Return once a run more has ended than had, or all have."""
    _, before = await ask(client, "GET", href)
    async with asyncio.timeout(60):
        while True:
            _, now = await ask(client, "GET", href)
            if now["runs_ended"] > before["runs_ended"] or now["status"] == "completed":
                return
            await asyncio.sleep(0.02)


async def _progresses(client: aiohttp.ClientSession, href: str) -> list[float]:
    """Every progress that a client sees."""
    seen: list[float] = []
    while not seen or seen[-1] < 100:
        _, found = await ask(client, "GET", href)
        seen.append(found["progress"])
        await asyncio.sleep(0.05)
    return seen

from __future__ import annotations

import asyncio
import signal
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from celery import Celery
from redis.asyncio import Redis
from stock_rig.child import Child
from support.api_rig import ended, running_api
from support.corpus import load_corpus
from support.observed import Observed
from support.worker_rig import async_worker, stock_worker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

CORPUS = load_corpus()
#: Seconds the whole corpus may take; it has programs that run into limits of seconds.
CORPUS_S = 480.0


def worker_of(kind: str, queue_url: str) -> AbstractAsyncContextManager[Child]:
    """One worker of the kind that is alone on the queues."""
    return async_worker(queue_url) if kind == "async" else stock_worker(queue_url)


async def while_alive(worker: Child, work: asyncio.Future[Any], timeout: float) -> Any:
    """What ``work`` comes to; a worker that ends meanwhile fails the test at once."""
    dying = asyncio.create_task(worker.wait(timeout))
    await asyncio.wait({work, dying}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    dying.cancel()
    if not work.done():
        work.cancel()
        raise AssertionError(f"not done; the worker's log:\n{worker.log}")
    return work.result()


@pytest.mark.parametrize("kind", ["async", "stock"])
async def test_the_corpus_ends_as_it_must_through_either_kind_of_worker(
    redis_url: str, redis: Redis, kind: str
) -> None:
    """Every program's output, error, exit code and verdict are right whoever runs it."""
    async with running_api(redis_url) as client, worker_of(kind, redis_url) as worker:
        everything = asyncio.gather(*(ended(client, program.request()) for program in CORPUS))
        views = await while_alive(worker, everything, CORPUS_S)
        await _until_nothing_is_claimed(redis)
    wrong = {
        program.name: found
        for program, view in zip(CORPUS, views, strict=True)
        if (found := program.check(Observed.from_view(view)))
    }
    assert wrong == {}


async def test_a_stock_client_gets_its_answer_from_the_async_worker(redis_url: str) -> None:
    """``send_task(...).get()`` of a stock application returns the result as a dictionary."""
    async with async_worker(redis_url):
        with Celery(broker=redis_url, backend=redis_url) as app:
            sent = app.send_task(
                "tasks.evaluate_code", args=["s1", "print(6*7)", "python"], queue="evaluation"
            )
            result = await asyncio.to_thread(sent.get, timeout=60)
            refused = app.send_task(
                "tasks.evaluate_code", args=["s2", "x", "cobol"], queue="evaluation"
            )
            with pytest.raises(Exception, match="cobol") as caught:
                await asyncio.to_thread(refused.get, timeout=60)
            app.pool.force_close_all()
    assert (result["output"], result["verdict"], result["exit_code"]) == ("42\n", "ok", 0)
    assert type(caught.value).__name__ == "InputError"


async def test_a_worker_killed_with_ten_running_programs_loses_none(
    redis_url: str, redis: Redis
) -> None:
    """SIGKILL in the middle of ten programs; the next worker ends all ten."""
    program = "import time\nprint('started', flush=True)\ntime.sleep(3)\nprint('done')"
    async with running_api(redis_url) as client:
        waiting = [
            asyncio.create_task(ended(client, {"code": program, "eval_id": f"k{n}"}))
            for n in range(10)
        ]
        async with async_worker(redis_url, "--concurrency", "10") as first:
            await _until_running(redis, 10)
            first.send_signal(signal.SIGKILL)
            await first.wait()
        assert await redis.hlen("unacked") == 10
        async with async_worker(redis_url, "--concurrency", "10"), asyncio.timeout(120):
            views = await asyncio.gather(*waiting)
    assert [view["output"] for view in views] == ["started\ndone\n"] * 10
    assert {view["verdict"] for view in views} == {"ok"}
    assert await redis.hlen("unacked") == 0


async def _until_nothing_is_claimed(redis: Redis) -> None:
    """Both kinds of worker drop a claim after the result is stored, stock a moment later."""
    async with asyncio.timeout(60):
        while await redis.hlen("unacked"):
            await asyncio.sleep(0.05)


async def _until_running(redis: Redis, count: int) -> None:
    """Wait until that many evaluations have been started by a worker."""
    async with asyncio.timeout(60):
        while True:
            keys: list[Any] = await redis.keys("celery-task-meta-*")
            metas = [await redis.get(key) for key in keys]
            if sum(b"STARTED" in meta for meta in metas if meta) == count:
                return
            await asyncio.sleep(0.05)

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from stock_rig.worker import StockWorker
from support.worker_rig import START_S, async_worker

from crucible.broker import Publisher
from crucible.errors import ResultTimeout, TaskFailed

#: As in the README: anybody's tasks in anybody's module.
DEMO = """
from crucible.worker import TaskRegistry

registry = TaskRegistry()

@registry.task("demo.add")
async def add(ctx, x, y):
    await ctx.update_state("PROGRESS", {"done": 1})
    if ctx.retries == 0 and x < 0:
        raise ctx.retry(countdown=0.1)
    return x + y

@registry.task("demo.fail")
async def fail(ctx):
    raise ValueError("bang", 42)

@registry.task("demo.block")
def block(ctx, seconds):
    import time
    time.sleep(seconds)
    return ctx.id
"""


async def test_anybody_s_tasks_are_served_without_an_engine(redis_url: str, tmp_path: Path) -> None:
    """``crucible worker --tasks`` needs no Docker; results, retries and errors come by push."""
    (tmp_path / "demo.py").write_text(DEMO)
    worker = async_worker(
        redis_url,
        *("--tasks", "demo:registry", "--queues", "jobs", "--name", "w1@here"),
        PYTHONPATH=str(tmp_path),
        CRUCIBLE_DOCKER_URL="unix:///nonexistent.sock",
    )
    async with worker, Publisher.connect(redis_url) as publisher:
        assert await (await publisher.send_task("demo.add", [1, 2], queue="jobs")).get(30) == 3
        assert await (await publisher.send_task("demo.add", [-1, 2], queue="jobs")).get(30) == 1
        with pytest.raises(TaskFailed) as caught:
            await (await publisher.send_task("demo.fail", queue="jobs")).get(30)
        assert (caught.value.exc_type, caught.value.exc_message) == ("ValueError", ["bang", 42])
        blocking = [await publisher.send_task("demo.block", [0.5], queue="jobs") for _ in range(20)]
        results = await asyncio.gather(*(handle.get(30) for handle in blocking))
        assert results == [handle.id for handle in blocking]
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait(START_S) == 0


@pytest.mark.stock
async def test_any_celery_application_can_be_sent_to(redis_url: str) -> None:
    """A stock worker's answer reaches an asyncio program by push; an unheard one times out."""
    async with (
        StockWorker("5.7.0", redis_url) as worker,
        Publisher.connect(redis_url) as publisher,
    ):
        result = await publisher.send_task("rig.add", args=[1, 2], queue="celery")
        assert await result.get(timeout=30) == 3
        unheard = await publisher.send_task("rig.add", args=[1, 2], queue="nobody")
        with pytest.raises(ResultTimeout):
            await unheard.get(timeout=0.2)
        worker.assert_quiet()

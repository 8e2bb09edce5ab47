"""What an operator reads in a worker's log."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from support.worker_rig import START_S, async_worker

from crucible.broker import Publisher
from crucible.embedded.server import EmbeddedServer
from crucible.errors import TaskFailed

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

TASKS = """
import asyncio
from crucible.worker import TaskRegistry

registry = TaskRegistry()

def divide(x):
    return 1 / x

@registry.task("log.fail")
async def fail(ctx, x):
    return divide(x)

@registry.task("log.hold")
async def hold(ctx, seconds):
    await asyncio.sleep(seconds)
"""


async def test_failures_dead_letters_and_the_stop_are_logged(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    """A failure with its own frames only, a dead letter with its reason, what is drained."""
    (tmp_path / "logged.py").write_text(TASKS)
    worker = async_worker(redis_url, "--tasks", "logged", PYTHONPATH=str(tmp_path))
    async with worker, Publisher.connect(redis_url) as publisher:
        with pytest.raises(TaskFailed):
            await (await publisher.send_task("log.fail", [0], task_id="id0")).get(START_S)
        await worker.wait_for_log(r"ERROR .*: task log\.fail\[id0\] failed: Traceback")
        await worker.wait_for_log(r"^ZeroDivisionError: division by zero$")
        frames = [line.split('"')[1] for line in worker.lines if line.startswith('  File "')]
        assert frames == [str(tmp_path / "logged.py")] * 2
        await publisher.send_task("log.none", task_id="id1")
        await worker.wait_for_log(
            r"WARNING .*: task log\.none\[id1\] of the queue celery becomes a dead letter, "
            r"unregistered: "
        )
        await redis.lpush("celery", "garbage")
        await worker.wait_for_log(r"WARNING .*: 1 unreadable messages become dead letters")
        held = await publisher.send_task("log.hold", [1.0])
        while not await redis.hlen("unacked"):
            await asyncio.sleep(0.01)
        worker.send_signal(signal.SIGTERM)
        await worker.wait_for_log(r"INFO .*: stopping: 1 tasks run, and have 30 s to end")
        await held.get(START_S)
        assert await worker.wait(START_S) == 0


async def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends(tmp_path: Path) -> None:
    """The refused connection is named as what it is, once."""
    server = EmbeddedServer(tmp_path)
    async with AsyncExitStack() as stack:
        async with server:
            worker = async_worker(server.url, "--tasks", "support.worker_tasks", PYTHONPATH="tests")
            await stack.enter_async_context(worker)
            await worker.wait_for_log("is ready", START_S)
        gone = await worker.wait_for_log(r"the queue server is gone", START_S)
        assert "did not answer" not in gone
        async with server:
            await worker.wait_for_log(r"the queue server is back after \d+\.\d s", START_S)
            warned = [
                line for line in worker.lines if "queue server" in line and "INFO" not in line
            ]
            assert len(warned) == 2, worker.log

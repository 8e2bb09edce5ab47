"""Real worker processes, real signals: nothing that was taken is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.patience import PATIENCE_S
from support.worker_rig import async_worker

from crucible.broker.wire.encode import encode_task

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from stock_rig.child import Child

pytestmark = pytest.mark.timeout(300)

#: Seconds within which a dead worker's claims are back.
RETURN_S = 15.0
TESTS = str(Path(__file__).resolve().parent.parent)


def worker(redis_url: str, *arguments: str) -> Child:
    """A worker process that serves ``support.worker_tasks``."""
    return async_worker(
        redis_url,
        *("--tasks", "support.worker_tasks:registry", "--queues", "celery", "--concurrency", "10"),
        *arguments,
        PYTHONPATH=TESTS,
    )


async def send(redis: Redis, name: str, *args: Any, count: int = 1) -> list[str]:
    ids = [f"{name}-{number}" for number in range(count)]
    for task_id in ids:
        await redis.lpush("celery", encode_task(name, args, task_id=task_id, queue="celery"))
    return ids


async def metas(redis: Redis, ids: list[str]) -> list[dict[str, Any]]:
    stored = await redis.mget([f"celery-task-meta-{task_id}" for task_id in ids])
    return [json.loads(meta) if meta else {"status": "PENDING"} for meta in stored]


async def until(redis: Redis, ids: list[str], status: str, timeout: float = PATIENCE_S) -> None:
    """Return once every task has this status; the test fails when that takes too long."""
    async with asyncio.timeout(timeout):
        while any(meta["status"] != status for meta in await metas(redis, ids)):
            await asyncio.sleep(0.05)


async def test_ten_running_tasks_survive_a_kill(redis_url: str, redis: Redis) -> None:
    """SIGKILL in the middle of ten tasks: a worker started afterwards ends all ten."""
    async with worker(redis_url) as first:
        ids = await send(redis, "rig.hold", 1.0, count=10)
        await until(redis, ids, "STARTED")
        os.kill(first.pid, signal.SIGKILL)
        await first.wait(PATIENCE_S)
    async with worker(redis_url) as second:
        await until(redis, ids, "SUCCESS")
        assert {meta["result"] for meta in await metas(redis, ids)} == {second.pid}
    assert not await redis.hlen("unacked")
    assert not await redis.zcard("unacked_index")


async def test_a_stopped_worker_is_replaced_and_notices(redis_url: str, redis: Redis) -> None:
    """SIGSTOP: its tasks move on within 15 s; woken again it drops what is no longer its own."""
    async with worker(redis_url) as sleeper:
        ids = await send(redis, "rig.hold", 1.5, count=3)
        await until(redis, ids, "STARTED")
        os.kill(sleeper.pid, signal.SIGSTOP)
        try:
            async with worker(redis_url) as other:
                await other.wait_for_log("is ready", PATIENCE_S)
                await until(redis, ids, "SUCCESS", RETURN_S + 10.0)
                assert {meta["result"] for meta in await metas(redis, ids)} == {other.pid}
        finally:
            os.kill(sleeper.pid, signal.SIGCONT)
        (extra,) = await send(redis, "rig.add", 1, 2)
        await until(redis, [extra], "SUCCESS")
        assert {meta["result"] for meta in await metas(redis, ids)} == {other.pid}
        assert not await redis.hlen("unacked")


async def test_sigterm_lets_running_tasks_end(redis_url: str, redis: Redis) -> None:
    """The first SIGTERM: running tasks end here, the rest stays in the list, exit code 0."""
    async with worker(redis_url, "--concurrency", "2") as child:
        ids = await send(redis, "rig.hold", 1.0, count=5)
        await until(redis, ids[:2], "STARTED")
        os.kill(child.pid, signal.SIGTERM)
        assert await child.wait(PATIENCE_S) == 0
    statuses = [meta["status"] for meta in await metas(redis, ids)]
    assert statuses == ["SUCCESS"] * 2 + ["PENDING"] * 3
    kept = [json.loads(raw)["headers"]["id"] for raw in await redis.lrange("celery", 0, -1)]
    assert kept[::-1] == ids[2:]
    assert not await redis.hlen("unacked")


async def test_a_second_sigterm_hands_back_at_once(redis_url: str, redis: Redis) -> None:
    """The second SIGTERM: running tasks are cancelled and are in the list again, exit code 0."""
    async with worker(redis_url) as child:
        ids = await send(redis, "rig.hold", 60.0, count=3)
        await until(redis, ids, "STARTED")
        os.kill(child.pid, signal.SIGTERM)
        while await redis.llen("celery") == 0 and child.returncode is None:
            os.kill(child.pid, signal.SIGTERM)
            await asyncio.sleep(0.2)
        assert await child.wait(PATIENCE_S) == 0
    kept = [json.loads(raw)["headers"]["id"] for raw in await redis.lrange("celery", 0, -1)]
    assert sorted(kept) == sorted(ids)


async def test_a_task_that_kills_its_worker_is_given_up(redis_url: str, redis: Redis) -> None:
    """A poison message takes max_deliveries workers along, then fails and is kept."""
    (poison,) = await send(redis, "rig.die")
    deaths = 0
    async with asyncio.timeout(240):
        while (await metas(redis, [poison]))[0]["status"] != "FAILURE":
            async with async_worker(
                redis_url,
                *("--tasks", "support.worker_tasks:registry", "--queues", "celery"),
                PYTHONPATH=TESTS,
                CRUCIBLE_MAX_DELIVERIES="2",
            ) as child:
                while child.returncode is None:
                    if (await metas(redis, [poison]))[0]["status"] == "FAILURE":
                        break
                    await asyncio.sleep(0.1)
                else:
                    deaths += 1
    assert deaths == 2
    assert await redis.xlen("crucible:dlq") == 1


async def test_a_plain_function_does_not_keep_its_process(redis_url: str, redis: Redis) -> None:
    """A second signal ends a worker in spite of a thread that nothing can stop.

    The claim is left to whoever sweeps, not given away while the thread runs.
    """
    async with worker(redis_url) as stuck:
        ids = await send(redis, "rig.block", 600.0)
        await until(redis, ids, "STARTED")
        # Two of a kind might arrive as one.
        stuck.send_signal(signal.SIGTERM)
        stuck.send_signal(signal.SIGINT)
        assert await stuck.wait(PATIENCE_S) == 0
    assert await redis.hlen("unacked") == 1
    assert not await redis.llen("celery")

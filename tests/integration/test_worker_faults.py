"""A worker whose link to the server fails in every way a link can."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from support.faults import Fault, FaultProxy
from support.unhindered import unhindered_s

from crucible.broker.wire.encode import encode_task
from crucible.worker.registry import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from crucible.worker.context import TaskContext

#: Seconds a fault lasts, and within which work goes on once it is over: waiting for a processor
#: is not counted.
FAULT_S, HEALED_S = 1.5, 5.0

registry = TaskRegistry()
runs: list[str] = []


@registry.task("f.hold")
async def hold(ctx: TaskContext, seconds: float) -> str:
    runs.append(ctx.id)
    await asyncio.sleep(seconds)
    return ctx.id


async def send(redis: Redis, seconds: float, *ids: str) -> None:
    for task_id in ids:
        raw = encode_task("f.hold", [seconds], task_id=task_id, queue="celery")
        await redis.lpush("celery", raw)


async def unhindered(redis: Redis) -> float:
    """Seconds, but for those in which this process or the server waited for a processor."""
    return unhindered_s((await redis.info("server"))["process_id"])


async def ended(redis: Redis, ids: Sequence[str], began: float | None = None) -> None:
    """Return once every task has SUCCESS, which must be within ``HEALED_S`` of ``began``."""
    if began is None:
        began = await unhindered(redis)
    async with asyncio.timeout(120):
        while True:
            stored = await redis.mget([f"celery-task-meta-{task_id}" for task_id in ids])
            if all(meta and json.loads(meta)["status"] == "SUCCESS" for meta in stored):
                return
            assert await unhindered(redis) - began < HEALED_S, stored
            await asyncio.sleep(0.02)


async def settled(redis: Redis, timeout: float = 60.0) -> None:
    """Return once nothing is claimed or queued."""
    async with asyncio.timeout(timeout):
        while await redis.hlen("unacked") or await redis.llen("celery"):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.PASS])
async def test_a_worker_outlives_a_failing_link(
    proxied_url: str, redis: Redis, proxy: FaultProxy, fault: Fault
) -> None:
    """Running tasks go on and their results arrive afterwards; new ones run within 5 s."""
    runs.clear()
    async with Worker(registry, broker_url=proxied_url, concurrency=4) as worker:
        await send(redis, 0.5, "running1", "running2")
        async with asyncio.timeout(60):
            while len(list(worker.running)) < 2:
                await asyncio.sleep(0.01)
        proxy.set(fault)
        await send(redis, 0.0, "meanwhile1", "meanwhile2")
        await asyncio.sleep(FAULT_S)
        proxy.set(Fault.PASS)
        healed = await unhindered(redis)
        await send(redis, 0.0, "after")
        tasks = ["after", "running1", "running2", "meanwhile1", "meanwhile2"]
        await ended(redis, tasks, healed)
        await settled(redis)
    assert sorted(runs) == sorted(set(runs))
    assert not await redis.zcard("unacked_index")


async def test_an_idle_worker_notices_a_silent_link(
    proxied_url: str, redis: Redis, proxy: FaultProxy
) -> None:
    """A link that died while nothing happened does not leave the worker deaf."""
    async with Worker(registry, broker_url=proxied_url):
        await send(redis, 0.0, "first")
        await ended(redis, ["first"])
        proxy.set(Fault.HALF_OPEN)
        proxy.set(Fault.PASS)
        await send(redis, 0.0, "second")
        await ended(redis, ["second"])


async def test_a_worker_starts_before_its_server(
    proxied_url: str, redis: Redis, proxy: FaultProxy
) -> None:
    """A worker started while the server is away serves as soon as it is there."""
    proxy.set(Fault.RESET)
    await send(redis, 0.0, "early")
    async with Worker(registry, broker_url=proxied_url):
        proxy.set(Fault.PASS)
        await ended(redis, ["early"])

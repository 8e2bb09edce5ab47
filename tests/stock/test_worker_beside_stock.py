"""An async worker beside stock workers and clients of every version, on the same lists."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from stock_rig.client import StockClient, StockClientError
from stock_rig.environments import NEWEST, OLDEST, VERSIONS
from stock_rig.worker import StockWorker

from crucible.broker.claiming.claims import Claim, Claims, new_worker_id
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.wire.encode import encode_task
from crucible.worker.registry import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.worker.context import TaskContext

pytestmark = pytest.mark.stock

registry = TaskRegistry()
runs: list[str] = []


@registry.task("rig.add")
async def add(ctx: TaskContext, x: int, y: int) -> int:
    runs.append(ctx.id)
    return x + y


@registry.task("rig.fail")
async def fail(ctx: TaskContext, *args: Any) -> None:
    raise ValueError("bang", 42)


@registry.task("rig.sleep")
async def sleep(ctx: TaskContext, seconds: float) -> str:
    runs.append(ctx.id)
    await asyncio.sleep(seconds)
    return "slept"


async def result(redis: Redis, task_id: str, timeout: float) -> dict[str, Any]:
    async with asyncio.timeout(timeout):
        while not (stored := await redis.get(f"celery-task-meta-{task_id}")):
            await asyncio.sleep(0.05)
    meta: dict[str, Any] = json.loads(stored)
    return meta


@pytest.mark.parametrize("version", VERSIONS)
async def test_stock_clients_get_their_results(version: str, redis_url: str) -> None:
    """Results, failures and unknown tasks reach a stock client as from a stock worker."""
    async with (
        StockClient(version, redis_url) as client,
        Worker(registry, broker_url=redis_url, concurrency=2),
    ):
        assert await client.get(await client.send_task("rig.add", [2, 3])) == 5
        with pytest.raises(StockClientError, match=r"ValueError: .*bang"):
            await client.get(await client.send_task("rig.fail"))
        with pytest.raises(StockClientError, match=r"NotRegistered: .*rig\.nobody"):
            await client.get(await client.send_task("rig.nobody"))


async def abandon(redis: Redis, redis_url: str, visibility_timeout_s: float, *etas: float) -> None:
    """Leave claims as a dead worker does: one plain, and one delayed until each of ``etas``."""
    async with open_client(redis_url) as client:
        claims = Claims(
            LuaStore(client), new_worker_id(), ["celery"],
            visibility_timeout_s=visibility_timeout_s,
        )  # fmt: skip
        for number in range(1 + len(etas)):
            raw = encode_task("rig.add", [number, 1], task_id=f"left{number}", queue="celery")
            await redis.lpush("celery", raw)
        taken: list[Claim] = await claims.take(1 + len(etas))
        await claims.delay(list(zip(taken[1:], etas, strict=True)))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
async def test_stock_workers_take_up_what_an_async_worker_left(
    version: str, redis_url: str, redis: Redis
) -> None:
    """With no async worker alive stock's own sweep restores its claims, and delayed ones if due."""
    now = time.time()
    await abandon(redis, redis_url, 1.0, now + 0.5, now + 3600)
    await asyncio.sleep(1.5)
    transport = {"broker_transport_options": {"visibility_timeout": 1}}
    async with StockWorker(version, redis_url, config=transport) as worker:
        for number in (0, 1):
            meta = await result(redis, f"left{number}", 30)
            assert (meta["status"], meta["result"]) == ("SUCCESS", number + 1)
        worker.assert_quiet()
    assert await redis.get("celery-task-meta-left2") is None
    assert await redis.hlen("unacked") == 1


async def test_a_stock_sweep_leaves_running_tasks_alone(redis_url: str, redis: Redis) -> None:
    """A task longer than the visibility timeout runs once beside a stock worker that sweeps."""
    runs.clear()
    transport = {
        "broker_transport_options": {
            "visibility_timeout": 3, "unacked_restore_interval": 1, "unacked_restore_throttle": 1,
        }
    }  # fmt: skip
    async with (
        StockWorker(NEWEST, redis_url, queues=["other"], config=transport) as stock,
        Worker(registry, broker_url=redis_url, visibility_timeout_s=3.0),
    ):
        raw = encode_task("rig.sleep", [8.0], task_id="long", queue="celery")
        await redis.lpush("celery", raw)
        assert (await result(redis, "long", 20))["result"] == "slept"
        stock.assert_quiet()
    assert runs == ["long"]

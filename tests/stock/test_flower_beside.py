"""Flower and stock workers beside an async worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from stock_rig.client import StockClient
from stock_rig.environments import FLOWER_VERSIONS
from stock_rig.flower import Flower
from support.fleet_tasks import registry

from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.stock

NODE = "async1@rig"


def async_worker(url: str, **options: Any) -> Worker:
    return Worker(registry, broker_url=url, concurrency=4, name=NODE, drain_s=5.0, **options)


@pytest.mark.parametrize("version", FLOWER_VERSIONS)
async def test_flower_knows_an_async_worker_and_its_tasks(version: str, redis_url: str) -> None:
    """Flower of either version shows worker, queues, success, failure and arguments."""
    async with (
        async_worker(redis_url, events=True),
        Flower(redis_url, version) as flower,
        StockClient(version, redis_url) as client,
    ):
        known = await flower.until_worker(NODE)
        assert [queue["name"] for queue in known["active_queues"]] == ["celery"]
        assert set(known["registered"]) >= {"rig.add", "rig.slow"}
        assert known["stats"]["pool"]["max-concurrency"] == 4
        done = await flower.until_task(await client.send_task("rig.add", [1, 2]))
        assert (done["name"], done["result"], done["args"]) == ("rig.add", "3", "[1, 2]")
        failed = await flower.until_task(await client.send_task("rig.fail"), "FAILURE")
        assert failed["exception"] == "ValueError('bang', 42)"
        assert "rig.fail" in failed["name"]
        assert NODE in await flower.page(f"/worker/{NODE}")
        assert NODE in await flower.page("/workers")
        assert "celery" in await flower.page("/broker")


@pytest.mark.parametrize("version", FLOWER_VERSIONS)
async def test_flowers_buttons_work(version: str, redis_url: str) -> None:
    """Pool, queues, limits, revoking and shutdown, as Flower's pages ask for them."""
    async with (
        async_worker(redis_url, events=True) as worker,
        Flower(redis_url, version) as flower,
        StockClient(version, redis_url) as client,
    ):
        await flower.until_worker(NODE)
        await flower.post(f"/api/worker/pool/grow/{NODE}", n="3")
        assert worker.concurrency == 4 + 3
        await flower.post(f"/api/worker/pool/shrink/{NODE}", n="2")
        assert (worker.concurrency, "shrunk") == (5, "shrunk")
        await flower.post(f"/api/worker/queue/add-consumer/{NODE}", queue="extra")
        assert list(worker.queues) == ["celery", "extra"]
        await flower.post(f"/api/worker/queue/cancel-consumer/{NODE}", queue="extra")
        assert list(worker.queues) == ["celery"]
        await flower.post("/api/task/rate-limit/rig.add", workername=NODE, ratelimit="10/m")
        assert worker.rates.rate_of("rig.add") == "10/m"
        await flower.post("/api/task/timeout/rig.slow", workername=NODE, hard="60", soft="30")
        assert worker.time_limits["rig.slow"] == (60.0, 30.0)
        task_id = await client.send_task("rig.slow", [60])
        await flower.until_task(task_id, "STARTED")
        await flower.post(f"/api/task/revoke/{task_id}", terminate="true")
        revoked = await flower.until_task(task_id, "REVOKED")
        assert revoked["worker"] == NODE
        await flower.post(f"/api/worker/shutdown/{NODE}")
        async with asyncio.timeout(60):
            await worker.node.stop_asked.wait()

"""``crucible workers`` with workers of both kinds."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from stock_rig.environments import NEWEST
from stock_rig.worker import StockWorker
from support.fleet_tasks import gates, registry
from support.worker_rig import START_S, crucible

from crucible.broker import Publisher
from crucible.broker.admin.fleet import list_workers
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from redis.asyncio import Redis

pytestmark = pytest.mark.stock

ASYNC, STOCK = "async1@rig", "stock1@rig"


async def printed(redis_url: str, *arguments: str) -> str:
    """What the command prints."""
    command = ["workers", "--queue-url", redis_url, *arguments]
    async with crucible(command, COLUMNS="200") as child:
        assert await child.wait(START_S) == 0, child.log
        return child.log


async def test_both_kinds_are_listed_with_what_they_do(redis_url: str) -> None:
    """Concurrency, running tasks and queues, as each worker says."""
    gates["workers"] = asyncio.Event()
    worker = Worker(registry, broker_url=redis_url, queues=["b", "a"], concurrency=3, name=ASYNC)
    stock = StockWorker(NEWEST, redis_url, queues=["c"], pool="threads", concurrency=2, node=STOCK)
    async with worker, stock, Publisher.connect(redis_url) as publisher:
        held = await publisher.send_task("rig.gate", ["workers"], queue="a")
        async with asyncio.timeout(60):
            while True:
                found: list[dict[str, Any]] = json.loads(await printed(redis_url, "--json"))
                if len(found) == 2 and found[0]["active"]:
                    break
        text = await printed(redis_url)
        gates["workers"].set()
        assert await held.get(timeout=60) == "workers"
    running, *idle = [worker.pop("running") for worker in found]
    assert [(task["id"], task["name"]) for task in running] == [(held.id, "rig.gate")]
    assert idle == [[]]
    assert [worker.pop("circuits") for worker in found] == [{}, {}]
    gauges, none = [worker.pop("gauges") for worker in found]
    assert gauges["worker slots"] == 3
    assert none == {}
    plain = {"status": "online", "detail": ""}
    assert found == [
        {
            "name": ASYNC,
            "kind": "async",
            **plain,
            "pool": "asyncio",
            "concurrency": 3,
            "active": 1,
            "queues": ["b", "a"],
        },
        {
            "name": STOCK,
            "kind": "stock",
            **plain,
            "pool": "threads",
            "concurrency": 2,
            "active": 0,
            "queues": ["c"],
        },
    ]
    assert [line.split() for line in text.splitlines()] == [
        ["name", "kind", "status", "concurrency", "active", "queues"],
        [ASYNC, "async", "online", "3", "1", "b,", "a"],
        [STOCK, "stock", "online", "2", "0", "c"],
    ]


async def test_trouble_and_silence_are_told_apart(redis_url: str, redis: Redis) -> None:
    """A worker that cannot run tasks says why; one that was killed just now does not reply."""
    await redis.zadd("crucible:workers", {"wdead": 1})
    await redis.set("crucible:worker:wdead", "dead@rig", ex=60)
    troubled = TaskRegistry(trouble=lambda: "no engine")
    async with Worker(troubled, broker_url=redis_url, queues=["a"], name=ASYNC):
        async with asyncio.timeout(60):
            while len(found := await list_workers(redis_url)) < 2 or found[0].status == "silent":
                pass
    told = [(worker.name, worker.status, worker.detail, worker.active) for worker in found]
    assert told == [(ASYNC, "trouble", "no engine", 0), ("dead@rig", "silent", "", None)]


async def test_no_worker_is_said(redis_url: str) -> None:
    """An empty list is no error."""
    assert await printed(redis_url) == "no worker is connected"
    assert json.loads(await printed(redis_url, "--json")) == []

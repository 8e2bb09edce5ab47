from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from support.patience import PATIENCE_S
from support.servers import KINDS, KindOfServer

from crucible.broker import IdempotencyRecord, Publisher
from crucible.broker.wire.encode import encode_task
from crucible.embedded.server import EmbeddedServer
from crucible.errors import QueueFull
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker


@pytest_asyncio.fixture(params=list(KINDS))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A server of each kind that the project supports."""
    async with KindOfServer(tmp_path, request.param) as server:
        yield server


def registry() -> TaskRegistry:
    """Tasks that use what a server has to offer."""
    tasks = TaskRegistry()

    @tasks.task("add", track_started=True)
    async def add(ctx: Any, x: int, y: int) -> int:
        if ctx.retries == 0 and x < 0:
            raise ctx.retry(countdown=0.1)
        return x + y

    @tasks.task("hang")
    async def hang(ctx: Any) -> None:
        await asyncio.Event().wait()

    return tasks


@pytest.mark.parametrize("claim", ["atomic", "brpop"])
async def test_tasks_run_on_every_server(
    server: EmbeddedServer, claim: Literal["atomic", "brpop"]
) -> None:
    """Publishing, waking up, claims, delays, retries, results, drain; with Lua and without."""
    worker = Worker(registry(), broker_url=server.url, queues=["a", "b"], claim=claim)
    async with (
        Publisher.connect(server.url, scripting=claim == "atomic") as publisher,
        Redis.from_url(server.url) as redis,
    ):
        async with worker:
            for x, options in ((1, {}), (-1, {}), (2, {"countdown": 0.2}), (3, {"priority": 9})):
                handle = await publisher.send_task("add", [x, 1], queue="b", **options)
                assert await handle.get(timeout=60) == x + 1
            calls = [await publisher.send_task("add", [n, n], queue="a") for n in range(50)]
            assert await asyncio.gather(*(c.get(PATIENCE_S) for c in calls)) == [
                2 * n for n in range(50)
            ]
        assert await redis.hlen("unacked") == 0
        assert await redis.zcard("unacked_index") == 0


async def test_a_dead_worker_s_claim_returns_on_every_server(server: EmbeddedServer) -> None:
    """The sweep finds what a worker left that never said goodbye."""
    async with Publisher.connect(server.url) as publisher, Redis.from_url(server.url) as redis:
        handle = await publisher.send_task("add", [1, 2], queue="a")
        raw = await redis.rpop("a")
        assert isinstance(raw, bytes)
        # As a worker leaves it that was killed after its claim.
        await redis.hset("unacked", "crucible|wdead|1", b"[" + raw + b', "", "a"]')
        await redis.zadd("unacked_index", {"crucible|wdead|1": (await redis.time())[0]})
        async with Worker(registry(), broker_url=server.url, queues=["a"]):
            assert await handle.get(timeout=60) == 3


async def test_once_and_limits_hold_on_every_server(server: EmbeddedServer) -> None:
    """Idempotent publication and bounded queues need no newer server."""
    async with (
        Publisher.connect(server.url, queue_limit=2) as publisher,
        Redis.from_url(server.url) as redis,
    ):
        once = IdempotencyRecord(publisher.keys.idempotency("x"), b"first", 60)
        raw = encode_task("add", [1, 2], task_id="t", queue="a")
        assert await publisher.publish(raw, queue="a", idempotency=once) is None
        assert await publisher.publish(raw, queue="a", idempotency=once) == b"first"
        await publisher.publish(raw, queue="a")
        with pytest.raises(QueueFull):
            await publisher.publish(raw, queue="a")
        assert await redis.llen("a") == 2

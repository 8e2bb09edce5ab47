"""A server whose memory is full: nothing new, and what is there drains by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from support.servers import KINDS, KindOfServer
from support.sweeping import seasoned_sweeper

from crucible.broker import Publisher
from crucible.broker.claiming.claims import Claims, new_worker_id
from crucible.broker.claiming.recovery.restorer import Restorer
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore
from crucible.broker.wire.encode import TaskCall
from crucible.errors import MemoryFull
from crucible.redis_keys import Keys
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker

#: Of one message, and messages.
SIZE, COUNT = 20_000, 200
DONE_S = 60.0
LOGGER = "crucible.broker.claiming.claims"


@pytest_asyncio.fixture(params=list(KINDS))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KindOfServer]:
    """A server of each kind."""
    async with KindOfServer(tmp_path, request.param) as server:
        yield server


class Counted:
    """Tasks, and how many of them ran at once."""

    def __init__(self) -> None:
        self.registry = TaskRegistry()
        self.runs, self.now, self.most = 0, 0, 0

        @self.registry.task("size")
        async def size(ctx: Any, text: str) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            self.runs += 1
            return len(text)


async def fill(publisher: Publisher, count: int) -> None:
    """Send large messages."""
    calls = [TaskCall("size", ["x" * SIZE], task_id=f"t{number}") for number in range(count)]
    await publisher.send_batch(calls)


async def drained(redis: Any, counted: Counted, count: int) -> None:
    """Return once all have run, and nothing is left of them."""
    async with asyncio.timeout(DONE_S):
        while counted.runs < count or await redis.hlen("unacked") or await redis.llen("celery"):
            await asyncio.sleep(0.02)
    assert counted.runs == count
    assert await redis.zcard("unacked_index") == 0
    assert len(await redis.keys("celery-task-meta-*")) == count


async def test_a_limit_just_below_what_is_used_drains(server: KindOfServer) -> None:
    """200 messages of 20 kB: all of them were claimed and none ever ended."""
    counted = Counted()
    async with Publisher.connect(server.url) as publisher, Redis.from_url(server.url) as redis:
        await fill(publisher, COUNT)
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", used - SIZE // 2)
        with pytest.raises(MemoryFull):
            await publisher.send_task("size", ["x"])
        async with Worker(counted.registry, broker_url=server.url):
            await drained(redis, counted, COUNT)
            assert await (await publisher.send_task("size", ["xyz"])).get(timeout=60) == 3


async def test_while_it_is_full_one_message_is_claimed_at_a_time(
    server: KindOfServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What ends gives memory back, what is claimed ahead would not; the log says it once."""
    counted = Counted()
    caplog.set_level(logging.WARNING, "crucible")
    async with Publisher.connect(server.url) as publisher, Redis.from_url(server.url) as redis:
        await fill(publisher, 8)
        await redis.config_set("maxmemory", 1)
        async with Worker(counted.registry, broker_url=server.url):
            await drained(redis, counted, 8)
            assert counted.most == 1
            await redis.config_set("maxmemory", 0)
            assert await (await publisher.send_task("size", ["xyz"])).get(timeout=60) == 3
    said = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert ["full" in text for text in said] == [True, False]


async def test_the_claims_of_a_dead_worker_go_back_while_it_is_full(server: KindOfServer) -> None:
    """What they hold would keep the memory full."""
    async with (
        Publisher.connect(server.url) as publisher,
        Redis.from_url(server.url) as redis,
        open_client(server.url) as client,
    ):
        store, keys = LuaStore(client), Keys()
        await fill(publisher, 2)
        dead = Claims(store, new_worker_id(), ["celery"])
        assert len(await dead.take(2)) == 2
        await redis.config_set("maxmemory", 1)
        swept = await seasoned_sweeper(store, keys, Restorer(store, keys)).sweep()
        assert swept.restored == 2
        assert await redis.llen("celery") == 2


async def test_without_scripts_nothing_is_popped_that_cannot_be_recorded(
    server: KindOfServer,
) -> None:
    """A popped message that found no room was lost."""
    async with (
        Publisher.connect(server.url, scripting=False) as publisher,
        Redis.from_url(server.url) as redis,
        open_client(server.url) as client,
    ):
        await fill(publisher, 1)
        await redis.config_set("maxmemory", 1)
        claims = Claims(TransactionStore(client), new_worker_id(), ["celery"])
        with pytest.raises(MemoryFull):
            await claims.take(1)
        assert claims.is_full
        assert await redis.llen("celery") == 1

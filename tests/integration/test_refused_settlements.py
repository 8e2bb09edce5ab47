"""Settlements that a real server refuses come to an end all the same."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis
from support.fleet_rig import final_state, send, until

from crucible.embedded.server import EmbeddedServer
from crucible.worker.registry import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.worker.context import TaskContext

registry = TaskRegistry()


@registry.task("s.add")
async def add(ctx: TaskContext, x: int, y: int) -> int:
    """A sum."""
    return x + y


@registry.task("s.large")
async def large(ctx: TaskContext, n_bytes: int) -> str:
    """A result of so many bytes."""
    return "x" * n_bytes


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[None]:
    """A worker."""
    async with Worker(registry, broker_url=url, concurrency=4):
        yield


def step(queue: str) -> dict[str, object]:
    """The next step of a chain, sent to ``queue``."""
    return {
        "task": "s.add", "args": [1], "kwargs": {}, "subtask_type": None, "immutable": False,
        "options": {"task_id": "next", "queue": queue},
    }  # fmt: skip


async def nothing_held(redis: Redis) -> None:
    """Wait until no claim is left."""

    async def none() -> bool:
        return not await redis.hlen("unacked")

    await until(none, 20)


async def test_a_step_whose_list_is_none_fails_the_task(redis: Redis, redis_url: str) -> None:
    """A chain whose next key is of another type: a failure, its message kept, nothing held."""
    await redis.set("spoilt", "not a list")
    await send(redis, "s.add", 1, 2, task_id="first", chain=[step("spoilt")])
    async with serving(redis_url):
        await send(redis, "s.add", 3, 4, task_id="other")
        assert (await final_state(redis, "other"))["result"] == 7
        meta = await final_state(redis, "first")
        assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", "BackendStoreError")
        await nothing_held(redis)
    letters: Any = await redis.xrange("crucible:dlq")
    ((_, letter),) = letters
    assert (letter[b"reason"], letter[b"task_id"]) == (b"unsettled", b"first")
    assert json.loads(letter[b"raw"])["headers"]["id"] == "first"


async def test_a_step_is_sent_once_its_list_is_one_again(redis: Redis, redis_url: str) -> None:
    """What is in the way for a moment only costs nothing."""
    await redis.set("spoilt", "not a list", px=300)
    await send(redis, "s.add", 1, 2, task_id="first", chain=[step("spoilt")])
    async with serving(redis_url):
        assert (await final_state(redis, "first"))["result"] == 3
        await nothing_held(redis)
    assert await redis.llen("spoilt") == 1
    assert not await redis.exists("crucible:dlq")


@pytest.mark.parametrize("n_bytes", [1_200_000, 20_000_000])
async def test_a_result_larger_than_the_server_takes_is_a_failure(
    scratch_server: EmbeddedServer, n_bytes: int
) -> None:
    """``proto-max-bulk-len``: the waiter is told, and other results are written meanwhile."""
    url = f"redis://127.0.0.1:{scratch_server.port}/0"
    async with Redis.from_url(url) as redis:
        await redis.config_set("proto-max-bulk-len", 1024 * 1024)
        async with serving(url):
            await send(redis, "s.large", n_bytes, task_id="large")
            meta = await final_state(redis, "large")
            assert meta["result"]["exc_type"] == "BackendStoreError"
            assert "too large" in str(meta["result"]["exc_message"])
            await send(redis, "s.add", 3, 4, task_id="other")
            assert (await final_state(redis, "other"))["result"] == 7
            await nothing_held(redis)

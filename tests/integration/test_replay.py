"""Tries of old messages, and dead letters that others wait for, through a worker."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from support.fleet_rig import until

from crucible.broker.claiming.deadletters import DeadLetters
from crucible.broker.claiming.settlement import Claim
from crucible.broker.redis.clock import ServerClock
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.wire.encode import encode_task
from crucible.redis_keys import Keys
from crucible.worker.dead_letters import DeadLetterEncoder
from crucible.worker.registry import TaskRegistry
from crucible.worker.result_encoder import ResultEncoder
from crucible.worker.run import Run
from crucible.worker.settlements import Settlements
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from crucible.worker.canvas.duties import CanvasDuties
    from crucible.worker.context import TaskContext

registry = TaskRegistry()
ran: list[tuple[str, int]] = []


@registry.task("y.retry", max_retries=2)
async def retry(ctx: TaskContext) -> str:
    ran.append((ctx.id, ctx.retries))
    raise ctx.retry(countdown=0.01)


@registry.task("y.add")
async def add(ctx: TaskContext, x: int, y: int) -> int:
    ran.append((ctx.id, ctx.retries))
    return x + y


@registry.task("y.first", keep_failed=True)
async def first(ctx: TaskContext) -> int:
    ran.append((ctx.id, ctx.retries))
    if len(ran) == 1:
        raise ValueError("not this time")
    return 5


@registry.task("y.double")
async def double(ctx: TaskContext, x: int) -> int:
    return 2 * x


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[Worker]:
    ran.clear()
    async with Worker(registry, broker_url=redis_url, concurrency=2, drain_s=5.0) as worker:
        yield worker


@pytest.fixture
async def letters(redis_url: str) -> AsyncIterator[DeadLetters]:
    async with open_client(redis_url) as client:
        yield DeadLetters(LuaStore(client), Keys())


async def ended(redis: Redis, task_id: str, status: str) -> dict[str, Any]:
    """The result of a task once it has that status."""

    async def found() -> dict[str, Any] | None:
        raw = await redis.get(f"celery-task-meta-{task_id}")
        meta: dict[str, Any] = json.loads(raw) if raw else {}
        return meta if meta.get("status") == status else None

    meta: dict[str, Any] = await until(found)
    return meta


def step(task_id: str) -> dict[str, Any]:
    """A later step of a chain, as on the wire."""
    options = {"task_id": task_id, "queue": "celery"}
    return {
        "task": "y.double", "args": [], "kwargs": {}, "options": options, "subtask_type": None,
        "immutable": False,
    }  # fmt: skip


@pytest.mark.parametrize("headers", [True, False])
async def test_tries_of_protocol_1_are_counted(worker: Worker, redis: Redis, headers: bool) -> None:
    """They end after as many as the task may have, and do not go round for ever."""
    envelope = json.loads(encode_task("y.retry", task_id="old", queue="celery"))
    fields = {"task": "y.retry", "id": "old", "args": [], "kwargs": {}, "retries": 0}
    envelope["body"] = base64.b64encode(json.dumps(fields).encode()).decode()
    envelope["headers"] = {}
    if not headers:
        del envelope["headers"]
    await redis.lpush("celery", json.dumps(envelope))
    await ended(redis, "old", "FAILURE")
    assert ran == [("old", 0), ("old", 1), ("old", 2)]


async def test_a_message_given_up_runs_when_it_is_replayed(
    redis: Redis, redis_url: str, letters: DeadLetters
) -> None:
    """Also one that a chain awaits, which the next worker buries on sight; it says how often."""
    ran.clear()
    raw = encode_task("y.add", [1, 2], task_id="a", queue="celery", options={"chain": [step("b")]})
    envelope = json.loads(raw)
    envelope["headers"] |= {"crucible_deliveries": 4, "redelivered": True}
    await redis.hset("unacked", "crucible|wdead|1", f'[{json.dumps(envelope)}, "", "celery"]')
    await redis.zadd("unacked_index", {"crucible|wdead|1": time.time() - 60})
    await redis.zadd("crucible:workers", {"wdead": time.time() - 60})
    async with Worker(registry, broker_url=redis_url, concurrency=2, drain_s=5.0):
        await ended(redis, "b", "FAILURE")
        (letter,) = await letters.page(5)
        assert (letter.reason, letter.attempts, ran) == ("undeliverable", "5", [])
        assert await letters.replay(letter)
        await ended(redis, "a", "SUCCESS")
        assert (await ended(redis, "b", "SUCCESS"))["result"] == 6
        assert await letters.count() == 0


async def test_a_replayed_step_takes_its_chain_along(
    worker: Worker, redis: Redis, letters: DeadLetters
) -> None:
    """The failure stored for the later steps does not keep their results from being stored."""
    chain = [step("c"), step("b")]
    await redis.lpush("celery", encode_task("y.first", task_id="a", options={"chain": chain}))
    for task_id in ("a", "b", "c"):
        await ended(redis, task_id, "FAILURE")
    (letter,) = await letters.page(5)
    assert await letters.replay(letter)
    assert (await ended(redis, "b", "SUCCESS"))["result"] == 10
    assert (await ended(redis, "c", "SUCCESS"))["result"] == 20


@pytest.mark.parametrize("raw", [b"no json", b'{"headers": [1]}'])
async def test_what_cannot_be_counted_is_buried_at_once(raw: bytes) -> None:
    """A fault of the worker's own sends a message round again only while that is counted."""
    clock = ServerClock()
    settlements = Settlements(
        ResultEncoder("w@test"),
        DeadLetterEncoder("w@test", clock),
        cast("CanvasDuties", None),
        (),
        keys=Keys(),
        clock=clock,
        max_deliveries=5,
    )
    run = Run(Claim("f", "q", 0, raw), asyncio.get_running_loop().time())
    disposition = settlements.worker_fault(run).disposition
    assert disposition is not None
    assert (disposition.to.value, disposition.raw) == ("dead_letters", raw)

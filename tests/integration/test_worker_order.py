"""The order in which a worker serves its queues, and the names it finds them under."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from crucible.broker.claiming.claims import (
    Claim,
    Claims,
    Destination,
    Disposition,
    Settlement,
    new_worker_id,
)
from crucible.broker.claiming.deadletters import DeadLetters, shown
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.store import RedisStore
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore
from crucible.broker.wire.encode import encode_task
from crucible.broker.wire.priority import step_of
from crucible.broker.wire.retry import parse
from crucible.redis_keys import Keys
from crucible.worker.registry import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.worker.context import TaskContext

registry = TaskRegistry()


@registry.task("o.add")
async def add(ctx: TaskContext, x: int, y: int) -> int:
    return x + y


@pytest.fixture(params=[LuaStore, TransactionStore])
async def steps(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[RedisStore]:
    async with open_client(redis_url) as client:
        yield request.param(client)


async def send(redis: Redis, keys: Keys, task_id: str, queue: str, priority: int = 0) -> None:
    raw = encode_task("o.add", [1, 1], task_id=task_id, queue=queue, priority=priority)
    await redis.lpush(keys.step_list(queue, step_of(priority)), raw)


def task_id_of(claim: Claim) -> str:
    return str(json.loads(claim.raw)["headers"]["id"])


async def take_all(claims: Claims, count: int, at_once: int) -> list[Claim]:
    taken: list[Claim] = []
    while len(taken) < count:
        taken += await claims.take(at_once)
    return taken


@pytest.mark.parametrize("at_once", [1, 3, 100])
async def test_queues_steps_and_age_in_that_order(
    redis: Redis, steps: RedisStore, at_once: int
) -> None:
    """Queue by queue as named, inside by priority step, inside first in first out."""
    expected = []
    sent = [
        ("urgent", 9, "c"), ("bulk", 0, "d"), ("urgent", 0, "a"), ("urgent", 0, "a2"),
        ("urgent", 4, "b"), ("bulk", 6, "e"), ("urgent", 5, "b2"), ("bulk", 0, "d2"),
    ]  # fmt: skip
    for queue, priority, task_id in sent:
        await send(redis, Keys(), task_id, queue, priority)
    expected = ["a", "a2", "b", "b2", "c", "d", "d2", "e"]
    claims = Claims(steps, new_worker_id(), ["urgent", "bulk"])
    taken = await take_all(claims, len(sent), at_once)
    assert [task_id_of(claim) for claim in taken] == expected
    assert await claims.requeue(taken) == len(sent)
    again = await take_all(claims, len(sent), at_once)
    assert [task_id_of(claim) for claim in again] == expected
    assert [claim.raw for claim in again] == [claim.raw for claim in taken]


async def test_prefix_other_database_and_other_result_server(redis_url: str, redis: Redis) -> None:
    """Queues below a key prefix, results in another database below another prefix."""
    port = urlsplit(redis_url).port
    result_url = f"redis://127.0.0.1:{port}/0"
    keys = Keys("pfx:", "res_")
    async with Redis.from_url(result_url) as results:
        await results.flushdb()
        await send(redis, keys, "a", "celery")
        async with Worker(
            registry, broker_url=redis_url, result_url=result_url, key_prefix="pfx:",
            result_prefix="res_",
        ):  # fmt: skip
            async with asyncio.timeout(60):
                while not (stored := await results.get("res_celery-task-meta-a")):
                    await asyncio.sleep(0.02)
        assert json.loads(stored)["result"] == 2
        await results.flushdb()
    for key in await redis.keys("*"):
        assert str(key).startswith("b'pfx:") or await redis.ttl(key) > 0, key
    assert not await redis.hlen("pfx:unacked")


async def test_wrong_types_in_the_way_lose_nothing(redis: Redis, redis_url: str) -> None:
    """A list's key of another type is passed over; an `unacked` of another type stops all."""
    await redis.set("urgent", "not a list")
    await send(redis, Keys(), "a", "bulk")
    async with open_client(redis_url) as client:
        claims = Claims(LuaStore(client), new_worker_id(), ["urgent", "bulk"])
        (taken,) = await claims.take(5)
        await claims.requeue([taken])
        await redis.set("unacked", "not a hash")
        with pytest.raises(Exception, match="WRONGTYPE"):
            await claims.take(5)
    assert await redis.llen("bulk") == 1


async def test_dead_letters_are_listed_replayed_and_purged(redis: Redis, steps: RedisStore) -> None:
    """A letter shows its reason; replayed, it is a message again and its failure is forgotten."""
    letters = DeadLetters(steps, Keys())
    claims = Claims(steps, new_worker_id(), ["q"])
    for number in range(3):
        await send(redis, Keys(), f"id{number}", "q", priority=4)
    for claim in await take_all(claims, 3, 3):
        fields = {"queue": "q", "reason": "rejected", "task_id": task_id_of(claim), "task": "o.add"}
        onward = Disposition(to=Destination.DEAD_LETTERS, raw=claim.raw, letter=fields)
        key = Keys().result(task_id_of(claim))
        await claims.settle([Settlement(claim, key, b'{"status": "FAILURE"}', onward)])
    newest, middle = await letters.page(2)
    assert (newest.task_id, newest.reason) == ("id2", "rejected")
    assert [letter.task_id for letter in await letters.page(9, middle.letter_id)] == ["id0"]
    assert await letters.get(newest.letter_id) == newest
    shown_message: Any = shown(newest)["message"]
    assert shown_message == parse(newest.raw)
    assert await letters.replay(newest)
    assert await redis.get("celery-task-meta-id2") is None
    (again,) = await take_all(claims, 1, 1)
    assert (again.raw, again.step) == (newest.raw, 3)
    assert await letters.purge([middle.letter_id]) == 1
    assert await letters.purge() == 1
    assert await letters.count() == 0

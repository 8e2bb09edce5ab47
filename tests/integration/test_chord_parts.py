"""Parts of a chord are counted by whoever holds the message, on a real server."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from crucible.broker.canvas.chord_parts import ChordFailed, ChordParts, Part
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.store import RedisStore
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore
from crucible.broker.wire.jsontypes import dumps, loads
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

GONE = {"exc_type": "OSError", "exc_message": ["ledger"], "exc_module": "builtins"}
FAILED = Part("a", "g", 0, "FAILURE", GONE)
ENDED_WELL = Part("a", "g", 0, "SUCCESS", 7)


@pytest.fixture(params=[LuaStore, TransactionStore])
async def steps(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[RedisStore]:
    async with open_client(redis_url) as client:
        yield request.param(client)


@pytest.fixture(params=["one server", "two servers"])
def parts(steps: RedisStore, request: pytest.FixtureRequest) -> ChordParts:
    queue = steps if request.param == "two servers" else None
    return ChordParts(steps, Keys(), 60, queue)


async def hold(redis: Redis, field: str) -> None:
    await redis.hset("unacked", field, "a message")


async def test_who_lost_the_message_counts_nothing(redis: Redis, parts: ChordParts) -> None:
    """A worker that was taken for dead does not fail the chord of a task that runs elsewhere."""
    await redis.set("celery-taskset-meta-g.s", 1)
    await hold(redis, "new")
    assert await parts.count(FAILED, "t1", "old") is None
    assert not await redis.exists("celery-taskset-meta-g.j", "celery-taskset-meta-g.d")
    ripe = await parts.count(ENDED_WELL, "t2", "new")
    assert ripe is not None
    assert ripe.values() == [7]


async def test_the_last_holder_decides_what_a_part_is(redis: Redis, parts: ChordParts) -> None:
    """Who counted and died before it ended the message is overruled by who ends it."""
    await redis.set("celery-taskset-meta-g.s", 2)
    await hold(redis, "old")
    assert await parts.count(FAILED, "t1", "old") is None
    await redis.delete("unacked")
    await hold(redis, "new")
    assert await parts.count(ENDED_WELL, "t2", "new") is None
    ripe = await parts.count(Part("b", "g", 1, "SUCCESS", 8), "t3", "new")
    assert ripe is not None
    assert ripe.values() == [7, 8]


async def test_a_part_counted_again_counts_once(redis: Redis, parts: ChordParts) -> None:
    """An answer that was lost and asked for again changes nothing."""
    await redis.set("celery-taskset-meta-g.s", 2)
    await hold(redis, "mine")
    for _ in range(3):
        assert await parts.count(ENDED_WELL, "t1", "mine") is None
    assert await redis.zcard("celery-taskset-meta-g.j") == 1


async def test_a_failed_part_fails_the_header(redis: Redis, parts: ChordParts) -> None:
    """What the holder counts is what the body hears of."""
    await redis.set("celery-taskset-meta-g.s", 1)
    await hold(redis, "mine")
    ripe = await parts.count(FAILED, "t1", "mine")
    assert ripe is not None
    with pytest.raises(ChordFailed, match="Dependency a raised OSError\\('ledger'\\)"):
        ripe.values()


@pytest.mark.parametrize("shared", [None, 7], ids=["no positions", "one position"])
async def test_parts_of_one_position_are_found_among_many(
    redis: Redis, parts: ChordParts, shared: int | None
) -> None:
    """Whatever their ids, one that is counted anew takes the place of what it was, and no other."""
    ids = [f"{kind}{number}" for number in range(400) for kind in ("a", "Z", "é", "a-")]
    random.Random(4).shuffle(ids)
    await redis.set("celery-taskset-meta-g.s", len(ids) + 1)
    # What a worker of Celery 5.6 counts: the part alone.
    rows = {dumps([1, task_id, "SUCCESS", 1]): shared or "+inf" for task_id in ids}
    await redis.zadd("celery-taskset-meta-g.j", {**rows, dumps([1, "b", "SUCCESS", 1]): 3})
    await hold(redis, "mine")
    for task_id in ids[:20]:
        ripe = await parts.count(Part(task_id, "g", shared, "SUCCESS", 2), "token", "mine")
    assert ripe is not None
    values = dict.fromkeys(ids, 1) | dict.fromkeys(ids[:20], 2)
    assert sorted(ripe.values()) == sorted([*values.values(), 1])
    assert {loads(part)[1]: loads(part)[3] for part in ripe.parts} == {**values, "b": 1}


async def test_a_large_header_is_read_in_its_order(redis: Redis, parts: ChordParts) -> None:
    """Page by page."""
    size = 1203
    await redis.set("celery-taskset-meta-g.s", size)
    rows = {dumps([1, f"t{number}", "SUCCESS", number]): number for number in range(1, size)}
    await redis.zadd("celery-taskset-meta-g.j", rows)
    await hold(redis, "mine")
    ripe = await parts.count(Part("a", "g", 0, "SUCCESS", 0), "token", "mine")
    assert ripe is not None
    assert ripe.values() == list(range(size))

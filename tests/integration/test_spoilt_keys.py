"""Keys of another type than they should have: whoever meets one goes on with everything else."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.sweeping import seasoned_sweeper

from crucible.broker.claiming.delayed import DueMessages
from crucible.broker.claiming.recovery.restorer import Restorer
from crucible.broker.claiming.recovery.sweeper import Sweeper
from crucible.broker.redis.clock import ServerClock
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.store import RedisStore
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore
from crucible.broker.wire.encode import encode_task
from crucible.redis_keys import Keys
from crucible.worker.liveness.delayed import DelayedMessages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

#: Visibility timeout of these tests, in seconds.
TIMEOUT_S = 3600.0


@pytest.fixture(params=[LuaStore, TransactionStore])
async def steps(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[RedisStore]:
    async with open_client(redis_url) as client:
        yield request.param(client)


def due_messages(steps: RedisStore) -> DueMessages:
    return DueMessages(steps, Keys(), TIMEOUT_S, ServerClock())


async def park(redis: Redis, task_id: str, queue: str, ago_s: float) -> str:
    """A delayed message that was due ``ago_s`` ago; returns its field."""
    raw = encode_task("t.x", task_id=task_id, queue=queue).decode()
    field = f"crucible|delayed|0|{task_id}"
    await redis.hset("unacked", field, f'[{raw}, "", "{queue}"]')
    await redis.zadd("unacked_index", {field: time.time() - TIMEOUT_S - ago_s})
    return field


async def claimed(redis: Redis, tag: str, queue: str) -> None:
    """What a stock worker holds that died long ago."""
    raw = encode_task("t.x", task_id=tag, queue=queue).decode()
    await redis.hset("unacked", tag, f'[{raw}, "", "{queue}"]')
    await redis.zadd("unacked_index", {tag: time.time() - TIMEOUT_S - 10.0})


async def test_a_delayed_message_waits_for_its_list(redis: Redis, steps: RedisStore) -> None:
    """The others that are due go out; this one is looked at again in a minute."""
    await redis.set("spoilt", "no list")
    stuck = await park(redis, "a", "spoilt", 5.0)
    await park(redis, "b", "sound", 4.0)
    before = time.time()
    first, stale = await due_messages(steps).move()
    assert not stale
    assert await redis.llen("sound") == 1
    assert await redis.hkeys("unacked") == [stuck.encode()]
    assert first is not None
    assert before + 50.0 < first < time.time() + 70.0


async def test_a_delayed_message_that_cannot_be_read_is_the_sweepers(
    redis: Redis, steps: RedisStore
) -> None:
    """It is handed to the sweeper instead of ending the loop, and becomes a dead letter there."""
    await redis.hset("unacked", "crucible|delayed|0|x", "garbage")
    await redis.zadd("unacked_index", {"crucible|delayed|0|x": 5.0})
    await park(redis, "b", "sound", 4.0)
    _, stale = await due_messages(steps).move()
    assert [field for field, _ in stale] == ["crucible|delayed|0|x"]
    assert await redis.llen("sound") == 1
    swept = await seasoned_sweeper(steps, Keys(), Restorer(steps, Keys())).restore_old(stale)
    assert swept.dead_letters == 1


async def test_a_claim_whose_list_is_none_is_out_of_the_way(
    redis: Redis, steps: RedisStore
) -> None:
    """It is dated now: tried again after the visibility timeout, and not at once for ever."""
    await redis.set("spoilt", "no list")
    await claimed(redis, "a-tag", "spoilt")
    sweeper = seasoned_sweeper(steps, Keys(), Restorer(steps, Keys()))
    _, stale = await due_messages(steps).move()
    assert (await sweeper.restore_old(stale)).moved == 0
    first, stale = await due_messages(steps).move()
    assert not stale
    assert first is not None
    assert first - time.time() > TIMEOUT_S - 60.0
    assert await redis.hlen("unacked") == 1


class CountedSweeper(Sweeper):
    """Restores nothing, and counts how often it is asked to."""

    def __init__(self, steps: RedisStore) -> None:
        super().__init__(steps, Keys(), Restorer(steps, Keys()))
        self.asked: list[float] = []

    async def restore_old(self, rows: Any) -> Any:
        self.asked.append(asyncio.get_running_loop().time())
        return await super().restore_old([])


async def test_claims_that_stay_make_no_busy_loop(redis: Redis, redis_url: str) -> None:
    """A look that met nothing but such claims is not followed by another at once."""
    await claimed(redis, "a-tag", "celery")
    async with open_client(redis_url) as client:
        steps = LuaStore(client)
        sweeper = CountedSweeper(steps)
        delayed = DelayedMessages(due_messages(steps), sweeper, ServerClock())
        looks = asyncio.create_task(delayed.run(lambda: None))
        async with asyncio.timeout(60):
            while len(sweeper.asked) < 3:
                await asyncio.sleep(0.01)
        looks.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looks
    assert min(later - sooner for sooner, later in itertools.pairwise(sweeper.asked)) >= 0.09

"""Claims of workers that are gone return, on a real server."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.sweeping import seasoned_sweeper

from crucible.broker.claiming.claims import Claim, Claims, Settlement, new_worker_id
from crucible.broker.claiming.recovery.restorer import MAX_DELIVERIES, Restorer
from crucible.broker.claiming.recovery.sweeper import SWEEP_S, Sweeper
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.store import RedisStore
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore
from crucible.broker.wire.encode import encode_task
from crucible.broker.wire.retry import deliveries_of, parse
from crucible.redis_keys import SEP, WORKER_TTL_S, Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis


@pytest.fixture(params=[LuaStore, TransactionStore])
async def steps(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[RedisStore]:
    async with open_client(redis_url) as client:
        yield request.param(client)


async def send(redis: Redis, task_id: str, queue: str = "celery", priority: int = 0) -> None:
    raw = encode_task("t.x", [[], 1.50], task_id=task_id, queue=queue, priority=priority)
    step = 3 if priority >= 3 else 0
    await redis.lpush(f"{queue}{SEP}{step}" if step else queue, raw)


async def claim(
    steps: RedisStore, count: int, queues: tuple[str, ...] = ("celery",)
) -> list[Claim]:
    """What a worker that lives has claimed, one call a message where it must be."""
    claims = Claims(steps, new_worker_id(), queues)
    await claims.renew([], "w@test")
    taken: list[Claim] = []
    while len(taken) < count:
        taken += await claims.take(count - len(taken))
    return taken


def sweeper_of(steps: RedisStore, max_deliveries: int = MAX_DELIVERIES) -> Sweeper:
    """A sweeper as a worker has one."""
    return seasoned_sweeper(steps, Keys(), Restorer(steps, Keys(), max_deliveries=max_deliveries))


async def bury_owner(redis: Redis, claim: Claim) -> None:
    """Let the sign of life of a claim's worker run out."""
    await redis.delete(f"crucible:worker:{claim.field.split('|')[1]}")


async def swept(redis: Redis, sweeper: Sweeper) -> Any:
    await redis.delete("crucible:sweep")
    return await sweeper.sweep()


async def ids(redis: Redis, key: str) -> list[str]:
    """Ids in the order they will be served."""
    return [json.loads(raw)["headers"]["id"] for raw in reversed(await redis.lrange(key, 0, -1))]


async def test_dead_workers_claims_return_in_order(
    redis: Redis, steps: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    """They are served next, oldest first, flagged and counted, in the list of their priority."""
    for number in range(3):
        await send(redis, f"a{number}")
    await send(redis, "p", priority=4)
    claims = await claim(steps, 4)
    await send(redis, "later")
    sweeper = sweeper_of(steps)
    await bury_owner(redis, claims[0])
    assert (await swept(redis, sweeper)).restored == 4
    (said,) = [one for one in caplog.messages if one.startswith("recovered")]
    assert said.endswith('4 back in their queues ("p", "a2", "a1", "a0"), 0 dead letters')
    assert await ids(redis, "celery") == ["a0", "a1", "a2", "later"]
    assert await ids(redis, f"celery{SEP}3") == ["p"]
    message = json.loads((await redis.lrange("celery", -1, -1))[0])
    assert message["headers"]["redelivered"] is True
    assert message["properties"]["delivery_info"]["redelivered"] is True
    assert message["headers"]["crucible_deliveries"] == 1
    assert not await redis.hlen("unacked")
    assert not await redis.zcard("unacked_index")
    assert not await redis.zcard("crucible:workers")


async def test_living_workers_keep_theirs(redis: Redis, steps: RedisStore) -> None:
    """A sweep leaves claims alone whose worker shows life, however old they are."""
    await send(redis, "a")
    (held,) = await claim(steps, 1)
    await redis.zadd("unacked_index", {held.field: 1.0})
    assert (await swept(redis, sweeper_of(steps))).restored == 0
    assert await redis.hlen("unacked") == 1


async def test_a_claim_of_nobody_is_found(redis: Redis, steps: RedisStore) -> None:
    """A claim whose worker is in no register, or that is in no index, returns all the same."""
    await send(redis, "a")
    await send(redis, "b")
    first, second = await claim(steps, 2)
    await bury_owner(redis, first)
    await redis.delete("crucible:workers")
    await redis.zrem("unacked_index", second.field)
    assert (await swept(redis, sweeper_of(steps))).restored == 2


async def test_poison_becomes_a_dead_letter(redis: Redis, steps: RedisStore) -> None:
    """A message that outlived max_deliveries workers fails, for its client, and is kept."""
    await send(redis, "bad")
    sweeper = sweeper_of(steps, max_deliveries=3)
    for _ in range(3):
        (held,) = await claim(steps, 1)
        await bury_owner(redis, held)
        await swept(redis, sweeper)
    assert not await redis.llen("celery")
    assert not await redis.hlen("unacked")
    rows: Any = await redis.xrange("crucible:dlq")
    ((_, letter),) = rows
    assert letter[b"reason"] == b"undeliverable"
    assert letter[b"attempts"] == b"3"
    stored = json.loads(await redis.get("celery-task-meta-bad") or b"")
    assert stored["status"] == "FAILURE"
    assert stored["result"]["exc_type"] == "WorkerLostError"


async def test_a_woken_worker_learns_what_it_lost(redis: Redis, steps: RedisStore) -> None:
    """Claims taken from a worker that was only asleep are named to it; its result still counts."""
    await send(redis, "a")
    claims = Claims(steps, new_worker_id(), ["celery"])
    await claims.renew([], "w@test")
    taken: list[Claim] = []
    while not taken:
        taken = await claims.take(1)
    await redis.delete(Keys().worker(claims.worker_id))
    await swept(redis, sweeper_of(steps))
    assert await claims.renew(taken, "w@test") == taken
    (other,) = await claim(steps, 1)
    ours = await claims.settle(
        [Settlement(taken[0], "celery-task-meta-a", b'{"status": "SUCCESS"}')]
    )
    assert ours == 0
    assert await redis.hexists("unacked", other.field)
    assert await redis.get("celery-task-meta-a") == b'{"status": "SUCCESS"}'


async def test_a_terminal_result_stays(redis: Redis, steps: RedisStore) -> None:
    """The second result of a task is not stored, whoever brings it."""
    claims = Claims(steps, new_worker_id(), ["celery"])
    key = "celery-task-meta-a"
    for meta in (b'{"status": "FAILURE"}', b'{"status": "SUCCESS"}', b'{"status": "STARTED"}'):
        await claims.settle([Settlement(None, key, meta)])
    assert await redis.get(key) == b'{"status": "FAILURE"}'
    await redis.set(key, b'{"task_id": "a", "status": "REVOKED"}')
    await claims.settle([Settlement(None, key, b'{"status": "SUCCESS"}')])
    assert b"REVOKED" in (await redis.get(key) or b"")


async def test_a_run_that_was_not_seen_ends_a_revoked_task(redis: Redis, steps: RedisStore) -> None:
    """REVOKED of who saw no start gives way to the end of the run; that of the run itself stays."""
    claims = Claims(steps, new_worker_id(), ["celery"])
    for key, children in (("celery-task-meta-a", "null"), ("celery-task-meta-b", "[]")):
        revoked = f'{{"status": "REVOKED", "children": {children}}}'.encode()
        await claims.settle([Settlement(None, key, revoked)])
        await claims.settle([Settlement(None, key, b'{"status": "SUCCESS"}')])
    assert await redis.get("celery-task-meta-a") == b'{"status": "SUCCESS"}'
    assert b"REVOKED" in (await redis.get("celery-task-meta-b") or b"")


@pytest.mark.parametrize(
    ("stored", "new", "replaced"),
    [
        ({}, {"result": {"left": "out"}}, True),
        ({}, {"result": {"left": None}}, False),
        ({}, {"result": {}}, False),
        ({"result": {"left": "out"}}, {"result": {"left": "other"}}, False),
        ({"status": "SUCCESS"}, {"result": {"left": "out"}}, False),
        ({}, {"status": "SUCCESS", "result": {"left": "out"}}, False),
    ],
)
async def test_a_revoked_task_is_given_what_it_left(
    redis: Redis,
    steps: RedisStore,
    stored: dict[str, Any],
    new: dict[str, Any],
    *,
    replaced: bool,
) -> None:
    """Once, and nothing else: it was cancelled before its start was stored."""
    claims, key = Claims(steps, new_worker_id(), ["celery"]), "celery-task-meta-a"
    before, after = (
        json.dumps({"status": "REVOKED", "children": []} | one).encode() for one in (stored, new)
    )
    for one in (before, after):
        await claims.settle([Settlement(None, key, one)])
    assert await redis.get(key) == (after if replaced else before)


async def test_old_stock_claims_return_as_stock_returns_them(
    redis: Redis, steps: RedisStore
) -> None:
    """A claim of a stock worker older than the visibility timeout goes to its queue's list."""
    raw = encode_task("t.x", [1], task_id="s", queue="celery").decode()
    await redis.hset("unacked", "some-tag", f'[{raw}, "", "elsewhere"]')
    await redis.zadd("unacked_index", {"some-tag": 5.25})
    sweeper = sweeper_of(steps)
    assert (await sweeper.restore_old([("some-tag", "5.5")])).restored == 0
    assert (await sweeper.restore_old([("some-tag", "5.25")])).restored == 1
    assert await ids(redis, "elsewhere") == ["s"]


async def test_a_whole_fleets_claims_return_in_two_round_trips(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims go back a chunk at a time: who sweeps may be killed before it is through."""
    async with open_client(redis_url) as client:
        steps = LuaStore(client)
        for number in range(60):
            await send(redis, f"a{number}")
        first = await claim(steps, 30)
        second = await claim(steps, 30)
        for held in (first[0], second[0]):
            await bury_owner(redis, held)
        asked: list[str] = []
        restore, command = steps.restore, steps.command

        async def noted_restore(*args: Any) -> Any:
            asked.append("restore")
            return await restore(*args)

        async def noted_command(*words: Any, **options: Any) -> Any:
            asked.append(words[0])
            return await command(*words, **options)

        monkeypatch.setattr(steps, "restore", noted_restore)
        monkeypatch.setattr(steps, "command", noted_command)
        assert (await swept(redis, sweeper_of(steps))).restored == 60
    assert asked.count("HMGET") == 1
    assert asked.count("restore") == 1
    assert await ids(redis, "celery") == [f"a{number}" for number in range(60)]


async def test_a_list_that_is_none_holds_up_nobody_else(redis: Redis, steps: RedisStore) -> None:
    """A claim whose list's key is of another type stays claimed; its neighbours go back."""
    await send(redis, "a", queue="spoilt")
    await send(redis, "b")
    taken = await claim(steps, 2, ("spoilt", "celery"))
    await redis.set("spoilt", "no list")
    await bury_owner(redis, taken[0])
    assert (await swept(redis, sweeper_of(steps))).restored == 1
    assert await ids(redis, "celery") == ["b"]
    assert await redis.hkeys("unacked") == [taken[0].field.encode()]
    await redis.delete("spoilt")
    assert (await swept(redis, sweeper_of(steps))).restored == 1
    assert await ids(redis, "spoilt") == ["a"]


async def test_nobody_is_judged_before_a_lifetime_was_seen(redis: Redis, steps: RedisStore) -> None:
    """After an outage heartbeats are missing that their workers had no chance to renew."""
    began = time.monotonic()
    for task_id in ("living", "dead"):
        await send(redis, task_id)
    living, dead = [await claim(steps, 1), await claim(steps, 1)]
    for claims in (living, dead):
        await bury_owner(redis, claims[0])
    sweeper = Sweeper(steps, Keys(), Restorer(steps, Keys()))
    owner = Claims(steps, living[0].field.split("|")[1], ["celery"])
    while not (await swept(redis, sweeper)).restored:
        await asyncio.sleep(SWEEP_S / 2)
        await owner.renew(living, "living@test")
    assert time.monotonic() - began >= WORKER_TTL_S
    assert await ids(redis, "celery") == ["dead"]
    assert await redis.hkeys("unacked") == [living[0].field.encode()]


@pytest.mark.parametrize("is_alive", [True, False])
async def test_age_alone_is_no_lost_delivery(
    redis: Redis, steps: RedisStore, is_alive: bool
) -> None:
    """Older than the visibility timeout: forgotten by a worker that lives, or lost with one."""
    await send(redis, "a")
    [held] = await claim(steps, 1)
    if not is_alive:
        await bury_owner(redis, held)
    await redis.zadd("unacked_index", {held.field: 5.25})
    fresh = Sweeper(steps, Keys(), Restorer(steps, Keys()))
    assert not (await fresh.restore_old([(held.field, "5.25")])).restored
    assert (await sweeper_of(steps).restore_old([(held.field, "5.25")])).restored == 1
    [raw] = await redis.lrange("celery", 0, -1)
    assert isinstance(raw, bytes)
    assert deliveries_of(parse(raw)) == (0 if is_alive else 1)


async def test_a_claim_that_ends_while_strays_are_looked_for_leaves_no_row(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without scripts the look and the row are two steps, and an end may come between them."""
    async with open_client(redis_url) as client:
        steps = TransactionStore(client)
        await send(redis, "a")
        [held] = await claim(steps, 1)
        scan: Any = client.hscan

        async def ending_behind(*args: Any, **options: Any) -> Any:
            cursor, page = await scan(*args, **options)
            for field in page:
                await redis.hdel("unacked", field)
                await redis.zrem("unacked_index", field)
            return cursor, page

        monkeypatch.setattr(client, "hscan", ending_behind)
        assert (await steps.index_strays(Keys(), 0, 10)).found == 0
    assert await redis.zrange("unacked_index", 0, -1) == [], held.field

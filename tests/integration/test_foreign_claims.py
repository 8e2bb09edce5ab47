"""Claims that other people's consumers left on the server, and what a sweep makes of them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from support.sweeping import seasoned_sweeper

from crucible.broker.claiming.deadletters import DeadLetters
from crucible.broker.claiming.recovery.restorer import Restorer
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.store import RedisStore
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore
from crucible.broker.wire.decode import decode
from crucible.broker.wire.encode import encode_task
from crucible.redis_keys import SEP, Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis


@pytest.fixture(params=[LuaStore, TransactionStore])
async def steps(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[RedisStore]:
    async with open_client(redis_url) as client:
        yield request.param(client)


async def leave(redis: Redis, message: str, exchange: str = "", key: str = "mail") -> None:
    """A claim as a stock consumer leaves it that died long ago."""
    value = f"[{message}, {json.dumps(exchange)}, {json.dumps(key)}]"
    await redis.hset("unacked", "a-tag", value)
    await redis.zadd("unacked_index", {"a-tag": 5.25})


async def sweep(steps: RedisStore) -> Any:
    """Take up that claim as the sweep by age does."""
    return await seasoned_sweeper(steps, Keys(), Restorer(steps, Keys())).restore_old(
        [("a-tag", "5.25")]
    )


async def letters(redis: Redis) -> list[dict[bytes, bytes]]:
    rows: Any = await redis.xrange("crucible:dlq")
    return [fields for _, fields in rows]


def plain_message(**properties: Any) -> dict[str, Any]:
    """What kombu's ``SimpleQueue`` sends: no task."""
    info = {"exchange": "", "routing_key": "mail"}
    return {
        "body": base64.b64encode(b'{"to": "x"}').decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {},
        "properties": {
            "delivery_info": info,
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "a",
            **properties,
        },
    }


def protocol_1() -> dict[str, Any]:
    """A task whose body says everything, and whose envelope has no headers."""
    body = {"task": "t.x", "id": "old", "args": [1], "kwargs": {}, "retries": 0}
    message = plain_message()
    message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    del message["headers"]
    return message


async def test_a_message_that_is_no_task_goes_back_to_its_list(
    redis: Redis, steps: RedisStore
) -> None:
    """As from stock: kombu's own users have their messages again, flagged."""
    await leave(redis, json.dumps(plain_message()))
    assert (await sweep(steps)).restored == 1
    message = json.loads((await redis.lrange("mail", 0, -1))[0])
    assert message["headers"] == {"redelivered": True}
    assert message["properties"]["delivery_info"]["redelivered"] is True
    assert not await letters(redis)


@pytest.mark.parametrize(
    ("priority", "where"),
    [("high", "mail"), (None, "mail"), ("4", f"mail{SEP}3"), (6, f"mail{SEP}6")],
)
async def test_a_priority_is_read_as_kombu_reads_it(
    redis: Redis, steps: RedisStore, priority: Any, where: str
) -> None:
    """What is no number counts as 0; a number in quotes is one."""
    await leave(redis, json.dumps(plain_message(priority=priority)))
    assert (await sweep(steps)).restored == 1
    assert await redis.llen(where) == 1


async def test_a_message_without_headers_is_counted(redis: Redis, steps: RedisStore) -> None:
    """A task of protocol 1 returns from its dead worker, and is given up like any other."""
    await redis.hset("unacked", "crucible|wgone|1", f'[{json.dumps(protocol_1())}, "", "mail"]')
    await redis.zadd("unacked_index", {"crucible|wgone|1": 5.0})
    await redis.zadd("crucible:workers", {"wgone": 5.0})
    sweeper = seasoned_sweeper(steps, Keys(), Restorer(steps, Keys(), max_deliveries=2))
    assert (await sweeper.sweep()).restored == 1
    raw = await redis.rpop("mail")
    assert isinstance(raw, bytes)
    assert decode(raw).id == "old"
    await redis.hset("unacked", "crucible|wgone|2", f'[{raw.decode()}, "", "mail"]')
    await redis.zadd("unacked_index", {"crucible|wgone|2": 5.0})
    await redis.delete("crucible:sweep")
    assert (await sweeper.sweep()).dead_letters == 1
    (letter,) = await letters(redis)
    assert (letter[b"task_id"], letter[b"attempts"]) == (b"old", b"2")
    assert json.loads(await redis.get("celery-task-meta-old") or b"")["status"] == "FAILURE"


async def test_what_cannot_return_is_kept_as_it_came(redis: Redis, steps: RedisStore) -> None:
    """A dead letter holds the message's bytes, not the claim's, and the queue it was for."""
    await leave(redis, '[1.50, "no object"]')
    assert (await sweep(steps)).dead_letters == 1
    (letter,) = await letters(redis)
    assert (letter[b"raw"], letter[b"queue"]) == (b'[1.50, "no object"]', b"mail")
    assert letter[b"reason"] == b"unreadable"


@pytest.mark.parametrize("value", ["", "no json", '{"a": 1}', '[{}, ""]', "[" * 5000])
async def test_garbage_is_kept_whole(redis: Redis, steps: RedisStore, value: str) -> None:
    """A claim that is none is a dead letter, and no end of the sweep."""
    await redis.hset("unacked", "a-tag", value)
    await redis.zadd("unacked_index", {"a-tag": 5.25})
    assert (await sweep(steps)).dead_letters == 1
    assert [letter[b"raw"] for letter in await letters(redis)] == [value.encode()]


async def test_a_named_exchange_leads_to_its_queues(redis: Redis, steps: RedisStore) -> None:
    """A topic's patterns are matched, a direct exchange's keys compared; both queues get it."""
    binding = "_kombu.binding.media"
    await redis.sadd(binding, f"media.#{SEP}^media\\..*?${SEP}films")
    await redis.sadd(binding, f"*.video{SEP}^[^\\.]+\\.video${SEP}videos")
    await redis.sadd(binding, f"media.audio{SEP}^media\\.audio${SEP}sounds")
    await redis.sadd(binding, "no binding", f"too{SEP}many{SEP}parts{SEP}here")
    await leave(redis, json.dumps(plain_message()), "media", "media.video")
    assert (await sweep(steps)).restored == 1
    assert [await redis.llen(name) for name in ("films", "videos", "sounds", "media.video")] == [
        1, 1, 0, 0,
    ]  # fmt: skip


async def test_a_queue_that_is_none_keeps_the_message_from_the_others(
    redis: Redis, steps: RedisStore
) -> None:
    """A claim that stays has gone nowhere, or it would go there again and again."""
    await redis.sadd("_kombu.binding.ex", f"k{SEP}{SEP}a", f"k{SEP}{SEP}b")
    await redis.set("b", "no list")
    await leave(redis, json.dumps(plain_message()), "ex", "k")
    assert (await sweep(steps)).restored == 0
    assert await redis.exists("a") == 0
    assert await redis.hlen("unacked") == 1


async def test_a_message_no_binding_leads_anywhere_is_kept(redis: Redis, steps: RedisStore) -> None:
    """A list that nobody reads is no place for it."""
    await redis.sadd("_kombu.binding.ex", f"other{SEP}{SEP}a")
    raw = json.dumps(plain_message())
    await leave(redis, raw, "ex", "k")
    assert (await sweep(steps)).dead_letters == 1
    (letter,) = await letters(redis)
    assert (letter[b"raw"], letter[b"queue"]) == (raw.encode(), b"k")


@pytest.mark.parametrize("key", ['"\\ud800"', "null", "5", "{}", '""'])
async def test_a_routing_key_that_is_none_ends_no_sweep(
    redis: Redis, steps: RedisStore, key: str
) -> None:
    """There is no list for it, so the message is kept."""
    await redis.hset("unacked", "a-tag", f'[{json.dumps(plain_message())}, "\\ud800", {key}]')
    await redis.zadd("unacked_index", {"a-tag": 5.25})
    assert (await sweep(steps)).dead_letters == 1


async def test_bindings_of_another_type_end_no_sweep(redis: Redis, steps: RedisStore) -> None:
    """The routing key is the next best guess, as where there are no bindings any more."""
    await redis.set("_kombu.binding.ex", "no set")
    await leave(redis, json.dumps(plain_message()), "ex", "k")
    assert (await sweep(steps)).restored == 1
    assert await redis.llen("k") == 1


async def test_a_letter_with_any_priority_can_be_replayed(redis: Redis, steps: RedisStore) -> None:
    """The same reading of priorities there."""
    raw = encode_task("t.x", task_id="a").replace(b'"priority": 0', b'"priority": "high"')
    await redis.xadd("crucible:dlq", {"raw": raw, "queue": "mail", "reason": "failed"})
    dead = DeadLetters(steps, Keys())
    (letter,) = await dead.page(1)
    assert await dead.replay(letter)
    assert await redis.lrange("mail", 0, -1) == [raw]

"""The publisher against a real server."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
from support.patience import PATIENCE_S

from crucible.broker import IdempotencyRecord, Publisher, TaskCall, TaskResult
from crucible.broker.canvas.signature import chord, group, signature
from crucible.broker.publishing.group_commit import MAX_FLUSH_MESSAGES
from crucible.broker.wire.decode import Message, decode
from crucible.errors import BrokerError, BrokerUnavailable, QueueFull

if TYPE_CHECKING:
    from redis.asyncio import Redis

MODES = pytest.mark.parametrize("scripting", [True, False], ids=["script", "plain"])


def _read(raw: Any) -> Message:
    """One element of a list."""
    assert isinstance(raw, bytes)
    return decode(raw)


async def _run_until_flushing(publisher: Publisher) -> None:
    """Let the flush that just began reach the server's side of things."""
    for _ in range(3):
        await asyncio.sleep(0)


@MODES
async def test_task_lies_in_its_list(redis_url: str, redis: Redis, scripting: bool) -> None:
    """A task is in the list of its queue and priority when ``send_task`` returns."""
    async with Publisher.connect(
        redis_url, scripting=scripting, deadline_s=PATIENCE_S
    ) as publisher:
        result = await publisher.send_task("a.b", [1], {"x": 2}, queue="evaluation", priority=4)
        raw = await redis.lindex("evaluation\x06\x163", 0)
    message = _read(raw)
    assert (message.id, message.args, message.kwargs) == (result.id, [1], {"x": 2})
    assert (message.queue, message.priority) == ("evaluation", 4)


@MODES
async def test_order_is_kept(redis_url: str, redis: Redis, scripting: bool) -> None:
    """Publications of one moment are served in the order they were made, across flushes."""
    count = 3 * MAX_FLUSH_MESSAGES
    async with Publisher.connect(
        redis_url, scripting=scripting, deadline_s=PATIENCE_S
    ) as publisher:
        sends = [publisher.publish(b"%d" % number, queue="q") for number in range(count)]
        await asyncio.gather(*sends)
    served = [int(raw) for raw in reversed(await redis.lrange("q", 0, -1))]
    assert served == list(range(count))


@MODES
async def test_once(redis_url: str, redis: Redis, scripting: bool) -> None:
    """Of all publications under one key only the first is pushed; the others get its value."""
    async with Publisher.connect(
        redis_url, scripting=scripting, deadline_s=PATIENCE_S
    ) as publisher:
        sends = [
            publisher.publish(
                b"%d" % n, queue="q", idempotency=IdempotencyRecord("key", b"v%d" % n, 60)
            )
            for n in range(5)
        ]
        assert await asyncio.gather(*sends) == [None, b"v0", b"v0", b"v0", b"v0"]
        again = await publisher.publish(
            b"x", queue="q", idempotency=IdempotencyRecord("key", b"new", 60)
        )
        assert again == b"v0"
        assert await publisher.recall("key") == b"v0"
        assert await publisher.recall("other") is None
    assert await redis.lrange("q", 0, -1) == [b"0"]
    assert 0 < await redis.pttl("key") <= 60_000


@MODES
async def test_once_keeps_its_place(redis_url: str, redis: Redis, scripting: bool) -> None:
    """A publication with a key stays in line with plain ones before and after it."""
    async with Publisher.connect(
        redis_url, scripting=scripting, deadline_s=PATIENCE_S
    ) as publisher:
        await asyncio.gather(
            publisher.publish(b"1", queue="q"),
            publisher.publish(b"2", queue="q", idempotency=IdempotencyRecord("key", b"", 60)),
            publisher.publish(b"3", queue="q"),
        )
    assert await redis.lrange("q", 0, -1) == [b"3", b"2", b"1"]


@MODES
async def test_full_queue_refuses(redis_url: str, redis: Redis, scripting: bool) -> None:
    """A queue takes up to its limit over all its lists; the rest is refused, nothing half done."""
    await redis.lpush("q\x06\x169", *range(4))
    async with Publisher.connect(redis_url, queue_limit=10, scripting=scripting) as publisher:
        outcomes = await asyncio.gather(
            *(publisher.publish(b"%d" % n, queue="q", priority=n % 7) for n in range(9)),
            publisher.publish(b"free", queue="other"),
            return_exceptions=True,
        )
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert len(refused) == 3
        assert all(isinstance(outcome, QueueFull) for outcome in refused)
        once = IdempotencyRecord("key", b"v", 60)
        with pytest.raises(QueueFull) as caught:
            await publisher.publish(b"x", queue="q", idempotency=once)
        assert (caught.value.queue, caught.value.depth) == ("q", 10)
        await redis.delete("q")
        assert await publisher.publish(b"x", queue="q", idempotency=once) is None
        # What is there already is found even when the queue is full again.
        await redis.lpush("q", *range(20))
        assert await publisher.publish(b"x", queue="q", idempotency=once) == b"v"


async def test_wrong_key_fails_only_its_own_callers(redis_url: str, redis: Redis) -> None:
    """A list key that holds something else fails those who publish there and nobody beside them."""
    await redis.set("bad", "a string")
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        outcomes = await asyncio.gather(
            publisher.publish(b"1", queue="good"),
            publisher.publish(b"2", queue="bad"),
            publisher.publish(b"3", queue="bad", idempotency=IdempotencyRecord("key", b"v", 60)),
            publisher.publish(b"4", queue="good"),
            return_exceptions=True,
        )
    assert [type(outcome) for outcome in outcomes] == [type(None), BrokerError, BrokerError,
                                                       type(None)]  # fmt: skip
    assert await redis.lrange("good", 0, -1) == [b"4", b"1"]
    assert not await redis.exists("key")


@MODES
async def test_cancelled_callers_take_nobody_along(
    redis_url: str, redis: Redis, scripting: bool
) -> None:
    """Callers that go away before or during a flush change nothing for the others."""
    async with Publisher.connect(
        redis_url, scripting=scripting, deadline_s=PATIENCE_S
    ) as publisher:
        tasks = [asyncio.create_task(publisher.publish(b"%d" % n, queue="q")) for n in range(300)]
        for task in tasks[:50]:
            task.cancel()
        await _run_until_flushing(publisher)
        for task in tasks[50:100]:
            task.cancel()
        await asyncio.gather(*tasks[100:])
    pushed = {int(raw) for raw in await redis.lrange("q", 0, -1)}
    assert pushed >= set(range(100, 300))
    assert not pushed & set(range(50))


async def test_batch(redis_url: str, redis: Redis) -> None:
    """A batch goes to its lists in order, and hands back a result each."""
    calls = [TaskCall("a.b", [n], queue=f"q{n % 3}", priority=n % 10) for n in range(2000)]
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        results = await publisher.send_batch(calls)
        assert await publisher.send_batch([]) == []
    ids = [result.id for result in results]
    assert len(set(ids)) == 2000
    found = {}
    for key in await redis.keys():
        served = [_read(raw) for raw in reversed(await redis.lrange(key, 0, -1))]
        assert [message.args for message in served] == sorted(message.args for message in served)
        found.update({message.id: message.args[0] for message in served})
    assert found == {task_id: number for number, task_id in enumerate(ids)}


async def test_batch_into_a_full_queue(redis_url: str) -> None:
    """Each call of a batch learns its own fate, and ``send_batch`` raises the first failure."""
    async with Publisher.connect(redis_url, queue_limit=700) as publisher:
        calls = [TaskCall("a.b", queue="full") for _ in range(1000)]
        outcomes = await publisher.try_batch([*calls, TaskCall("a.b", queue="free")])
        assert [type(outcome) for outcome in outcomes[:700]] == [TaskResult] * 700
        assert [type(outcome) for outcome in outcomes[700:1000]] == [QueueFull] * 300
        assert isinstance(outcomes[1000], TaskResult)
        with pytest.raises(QueueFull):
            await publisher.send_batch(calls)


async def test_prefixes(redis_url: str, redis: Redis) -> None:
    """Lists and results carry their prefixes; inside messages names stay without."""
    async with Publisher.connect(
        redis_url, global_keyprefix="pfx:", result_keyprefix="res_"
    ) as publisher:
        result = await publisher.send_task("a.b", queue="q", priority=9)
        assert _read(await redis.lindex("pfx:q\x06\x169", 0)).queue == "q"
        await redis.set(
            f"res_celery-task-meta-{result.id}",
            b'{"status":"SUCCESS","result":1,"task_id":"%s"}' % result.id.encode(),
        )
        assert await result.state() == "SUCCESS"
        assert await result.get(timeout=60) == 1
        await result.forget()
        assert await result.state() == "PENDING"


async def test_script_cache_flushed(redis_url: str, redis: Redis) -> None:
    """A server that forgot its scripts is given them again, without a failure."""
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        await publisher.publish(b"1", queue="q")
        await redis.script_flush()
        await publisher.publish(b"2", queue="q")
    assert await redis.llen("q") == 2


async def test_closed_publisher(redis_url: str, redis: Redis) -> None:
    """What waits when a publisher is left is still sent; afterwards it refuses."""
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        sending = asyncio.create_task(publisher.publish(b"last", queue="q"))
        await asyncio.sleep(0)
    await sending
    assert await redis.llen("q") == 1
    with pytest.raises(BrokerUnavailable):
        await publisher.publish(b"x", queue="q")
    with pytest.raises(BrokerUnavailable):
        await publisher.results.wait("x", timeout=1)
    with pytest.raises(BrokerUnavailable):
        await publisher.results.meta("x")


async def test_large_messages(redis_url: str, redis: Redis) -> None:
    """Messages far beyond the size of a flush arrive whole."""
    raws = [bytes([65 + n]) * (1_500_000 + n) for n in range(5)]
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        await asyncio.gather(*(publisher.publish(raw, queue="q") for raw in raws))
    assert list(reversed(await redis.lrange("q", 0, -1))) == raws


async def test_chord_counter(redis_url: str, redis: Redis) -> None:
    """A chord's size is written with a time to live, and its old end forgotten."""
    async with Publisher.connect(redis_url, result_expires_s=60) as publisher:
        await redis.set("celery-taskset-meta-g.c", "done")
        work = chord([signature("a.b", [n]) for n in range(3)], signature("a.sum"), task_id="g")
        result = await publisher.send_canvas(work)
        assert isinstance(result, TaskResult)
        assert result.parent is not None
        assert result.parent.id == "g"
    assert await redis.get("celery-taskset-meta-g.s") == b"3"
    assert 0 < await redis.ttl("celery-taskset-meta-g.s") <= 60
    assert not await redis.exists("celery-taskset-meta-g.c")
    assert await redis.llen("celery") == 3


async def test_nested_groups_in_a_header_are_saved(redis_url: str, redis: Redis) -> None:
    """A header whose member ends in a group is kept for whoever joins the results."""
    ends_in_group = [signature("a.b"), group([signature("a.c"), signature("a.d")])]
    work = chord([{**signature("x"), **_chain(ends_in_group)}], signature("a.sum"), task_id="g")
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        await publisher.send_canvas(work)
    saved = await redis.get("celery-taskset-meta-g")
    assert isinstance(saved, bytes)
    assert saved.startswith(b'{"result": [["g", null], [[[')
    assert await redis.get("celery-taskset-meta-g.s") == b"2"


def _chain(parts: list[Any]) -> dict[str, Any]:
    from crucible.broker.canvas.signature import chain

    return chain(*parts)


async def test_canvas_helpers(redis_url: str, redis: Redis) -> None:
    """Chains, groups and chords can be sent without building them first."""
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        chained = await publisher.send_chain(signature("a.b", [1]), signature("a.c"))
        assert chained.parent is not None
        assert _read(await redis.rpop("celery")).id == chained.parent.id
        grouped = await publisher.send_group([signature("a.b"), signature("a.c")])
        ids = {_read(raw).id for raw in await redis.lrange("celery", 0, -1)}
        assert {member.id for member in grouped.results} == ids
        await redis.delete("celery")
        empty = await publisher.send_chord([], signature("a.sum"))
        assert _read(await redis.rpop("celery")).id == empty.id


async def test_ids_differ_after_a_fork() -> None:
    """A child process hands out ids of its own."""
    from crucible.broker.wire.ids import new_id

    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100).decode() != new_id()
    os.close(reading)
    os.close(writing)

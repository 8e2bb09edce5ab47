"""What a worker does with one message, on a real server."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from crucible.broker.canvas.signature import signature
from crucible.broker.wire.encode import encode_task
from crucible.worker.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from crucible.worker.registry import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from crucible.broker.canvas.signature import Signature
    from crucible.broker.wire.encode import TaskOptions
    from crucible.worker.context import TaskContext

registry = TaskRegistry()
tries: list[int] = []


@registry.task("t.add")
async def add(ctx: TaskContext, x: int, y: int) -> int:
    return x + y


@registry.task("t.threaded")
def threaded(ctx: TaskContext, x: int) -> int:
    time.sleep(0.001)
    return x * 2


@registry.task("t.flaky")
async def flaky(ctx: TaskContext, until: int) -> int:
    if ctx.retries < until:
        raise ctx.retry(countdown=0.05, exc=ValueError("not yet"))
    return ctx.retries


@registry.task("t.later")
async def later(ctx: TaskContext, countdown: float) -> None:
    tries.append(ctx.retries)
    raise ctx.retry(countdown=countdown)


@registry.task("t.boom")
async def boom(ctx: TaskContext) -> None:
    raise ValueError("bang", 42)


@registry.task("t.unencodable")
async def unencodable(ctx: TaskContext) -> object:
    return object()


@registry.task("t.reject")
async def reject(ctx: TaskContext, requeue: bool) -> str:
    if not ctx.delivery_info["redelivered"]:
        raise Reject("no", requeue=requeue)
    return "second time"


@registry.task("t.ignore")
async def ignore(ctx: TaskContext) -> None:
    raise Ignore


@registry.task("t.quiet", ignore_result=True)
async def quiet(ctx: TaskContext) -> int:
    return 1


@registry.task("t.progress", track_started=True)
async def progress(ctx: TaskContext) -> str:
    await ctx.update_state("PROGRESS", {"current": 1, "total": 2})
    return "done"


@registry.task("t.short", track_started=True)
async def short(ctx: TaskContext) -> int:
    return 1


@registry.task("t.sleep")
async def sleep(ctx: TaskContext, seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "told"
    return "slept"


@pytest.fixture(params=["atomic", "brpop"])
async def worker(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Worker]:
    async with Worker(
        registry, broker_url=redis_url, concurrency=4, name="w@test", claim=request.param
    ) as worker:
        yield worker


_number = iter(range(1_000_000))


async def send(redis: Redis, name: str, *args: Any, **options: Any) -> str:
    """Push one message as a stock producer does; returns its id."""
    task_id = f"id-{next(_number)}"
    raw = encode_task(
        name, args, task_id=task_id, queue="celery", options=cast("TaskOptions", options)
    )
    await redis.lpush("celery", raw)
    return task_id


async def states(redis: Redis, task_id: str, until: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every state stored from now on, up to one of ``until``."""
    key = f"celery-task-meta-{task_id}"
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(60), redis.pubsub() as pubsub:
        await pubsub.subscribe(key)
        stored = await redis.get(key)
        if stored is not None:
            seen.append(json.loads(stored))
        while not seen or seen[-1]["status"] not in until:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message:
                seen.append(json.loads(message["data"]))
    return seen


async def final_state(redis: Redis, task_id: str) -> dict[str, Any]:
    return (await states(redis, task_id, ("SUCCESS", "FAILURE", "REVOKED")))[-1]


async def letters(redis: Redis) -> list[dict[bytes, bytes]]:
    """The fields of every dead letter, oldest first."""
    rows: Any = await redis.xrange("crucible:dlq")
    return [fields for _, fields in rows]


async def settled(redis: Redis) -> None:
    """Return once nothing is claimed, queued or delayed."""
    async with asyncio.timeout(60):
        while await redis.hlen("unacked") or await redis.llen("celery"):
            await asyncio.sleep(0.01)


async def test_stores_and_acknowledges(worker: Worker, redis: Redis) -> None:
    """A task's result is stored as stock stores it, and its claim is gone."""
    task_id = await send(redis, "t.add", 2, 3)
    meta = await final_state(redis, task_id)
    assert list(meta) == ["status", "result", "traceback", "children", "date_done", "task_id"]
    assert (meta["status"], meta["result"]) == ("SUCCESS", 5)
    await settled(redis)
    assert not await redis.zcard("unacked_index")
    assert 0 < await redis.ttl(f"celery-task-meta-{task_id}") <= 86_400


async def test_runs_plain_functions_in_threads(worker: Worker, redis: Redis) -> None:
    """A function that is not a coroutine runs too."""
    assert (await final_state(redis, await send(redis, "t.threaded", 4)))["result"] == 8


async def test_failure_names_the_exception(worker: Worker, redis: Redis) -> None:
    """What a task raises is stored with class, arguments, module and traceback."""
    meta = await final_state(redis, await send(redis, "t.boom"))
    assert meta["status"] == "FAILURE"
    assert meta["result"] == {
        "exc_type": "ValueError", "exc_message": ["bang", 42], "exc_module": "builtins",
    }  # fmt: skip
    assert meta["traceback"].startswith("Traceback (most recent call last):")


async def test_unencodable_result_is_a_failure(worker: Worker, redis: Redis) -> None:
    """A result JSON cannot carry ends in FAILURE EncodeError, so that no client waits for ever."""
    meta = await final_state(redis, await send(redis, "t.unencodable"))
    assert meta["status"] == "FAILURE"
    assert meta["result"]["exc_type"] == "EncodeError"


async def test_retries_until_it_succeeds(worker: Worker, redis: Redis) -> None:
    """A task that asks for it runs again under the same id, passing through RETRY."""
    task_id = await send(redis, "t.flaky", 2)
    seen = await states(redis, task_id, ("SUCCESS", "FAILURE"))
    assert seen[-1]["result"] == 2
    await settled(redis)


async def test_retries_are_bounded(worker: Worker, redis: Redis) -> None:
    """After max_retries the exception that was named is the result."""
    meta = await final_state(redis, await send(redis, "t.flaky", 99))
    assert meta["status"] == "FAILURE"
    assert meta["result"]["exc_message"] == ["not yet"]


async def test_a_retry_that_can_never_come_fails_the_task(worker: Worker, redis: Redis) -> None:
    """A countdown beyond the calendar is the task's own error, at its first try."""
    tries.clear()
    meta = await final_state(redis, await send(redis, "t.later", 1e12))
    assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", "OverflowError")
    assert tries == [0]


async def test_an_unknown_task_fails_whatever_else_its_message_says(
    worker: Worker, redis: Redis
) -> None:
    """As from stock, an unknown name is told at once: neither waited for, nor taken for expired."""
    for when in ({"countdown": 100}, {"expires": "2001-01-01T00:00:00+00:00"}):
        meta = await final_state(redis, await send(redis, "t.nobody", **when))
        assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", "NotRegistered")


async def published_by(redis_url: str, redis: Redis, task_id: str) -> list[str]:
    """The states of a task that a worker publishes, up to its success."""
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(f"celery-task-meta-{task_id}")
        async with Worker(registry, broker_url=redis_url), asyncio.timeout(60):
            seen: list[str] = []
            while "SUCCESS" not in seen:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
                if message:
                    seen.append(json.loads(message["data"])["status"])
    return seen


async def test_progress_is_seen_before_the_end(redis_url: str, redis: Redis) -> None:
    """STARTED and a state of the task's own are published before SUCCESS."""
    task_id = await send(redis, "t.progress")
    assert await published_by(redis_url, redis, task_id) == ["STARTED", "PROGRESS", "SUCCESS"]


@pytest.mark.parametrize("link", [[], [signature("t.quiet")]])
async def test_the_start_of_a_short_task_is_seen_before_its_end(
    redis_url: str, redis: Redis, link: list[Signature]
) -> None:
    """Nothing waits for STARTED, which is stored in one step with the end; callbacks or none."""
    task_id = await send(redis, "t.short", link=link)
    assert await published_by(redis_url, redis, task_id) == ["STARTED", "SUCCESS"]


async def test_unknown_task_fails_and_is_kept(worker: Worker, redis: Redis) -> None:
    """An unknown task stores NotRegistered and stays as a dead letter with its bytes."""
    meta = await final_state(redis, await send(redis, "t.nobody"))
    assert meta["result"] == {
        "exc_type": "NotRegistered", "exc_message": ["t.nobody"],
        "exc_module": "celery.exceptions",
    }  # fmt: skip
    (letter,) = await letters(redis)
    assert letter[b"reason"] == b"unregistered"
    assert json.loads(letter[b"raw"])["headers"]["task"] == "t.nobody"


@pytest.mark.parametrize(
    "raw",
    [b"garbage", b"", b"[1, 2]", b"{}", b'{"headers": [], "properties": {}}', b"\xff\xfe", b"nul",
     b'{"body": "e30=", "headers": {"id": "x"}, "properties": {"delivery_info": {}}}'],
)  # fmt: skip
async def test_garbage_becomes_a_dead_letter(worker: Worker, redis: Redis, raw: bytes) -> None:
    """Bytes that are no message are kept as they are, and the next message runs."""
    await redis.lpush("celery", raw)
    assert (await final_state(redis, await send(redis, "t.add", 1, 1)))["result"] == 2
    await settled(redis)
    (letter,) = await letters(redis)
    assert letter[b"raw"] == raw


async def test_reject_with_requeue_comes_back(worker: Worker, redis: Redis) -> None:
    """A requeued message is delivered again, marked redelivered."""
    meta = await final_state(redis, await send(redis, "t.reject", True))
    assert meta["result"] == "second time"


async def test_reject_without_requeue_is_kept(worker: Worker, redis: Redis) -> None:
    """A rejected message fails as in 5.7 and becomes a dead letter."""
    meta = await final_state(redis, await send(redis, "t.reject", False))
    assert meta["result"]["exc_type"] == "Reject"
    assert await redis.xlen("crucible:dlq") == 1


async def test_ignored_tasks_store_nothing(worker: Worker, redis: Redis) -> None:
    """Neither Ignore nor ignore_result leaves a result or a claim."""
    first, second = await send(redis, "t.ignore"), await send(redis, "t.quiet")
    await final_state(redis, await send(redis, "t.add", 1, 1))
    await settled(redis)
    for task_id in (first, second):
        assert await redis.get(f"celery-task-meta-{task_id}") is None


async def test_the_message_says_whether_its_result_is_stored(worker: Worker, redis: Redis) -> None:
    """As from stock 5.7, a message that wants its result gets it, whatever its task is told."""
    raw = encode_task("t.quiet", [], task_id="wanted", queue="celery", ignore_result=False)
    await redis.lpush("celery", raw)
    meta = await final_state(redis, "wanted")
    assert (meta["status"], meta["result"]) == ("SUCCESS", 1)


async def test_expired_task_is_revoked(worker: Worker, redis: Redis) -> None:
    """A task past its expiry is not run."""
    task_id = await send(redis, "t.add", 1, 1, expires="2001-01-01T00:00:00+00:00")
    meta = await final_state(redis, task_id)
    assert meta["status"] == "REVOKED"
    assert meta["result"]["exc_message"] == ["expired"]


async def test_countdown_is_kept_in_the_server(worker: Worker, redis: Redis) -> None:
    """A delayed task waits in unacked and never runs early."""
    began = time.time()
    task_id = await send(redis, "t.add", 1, 1, countdown=0.4)
    meta = await final_state(redis, task_id)
    assert meta["status"] == "SUCCESS"
    assert time.time() - began >= 0.4


async def test_hard_time_limit_fails_the_task(worker: Worker, redis: Redis) -> None:
    """A task over its hard limit is stopped and told apart by its exception."""
    meta = await final_state(redis, await send(redis, "t.sleep", 60, time_limit=0.1))
    assert meta["result"] == {
        "exc_type": "TimeLimitExceeded", "exc_message": [0.1],
        "exc_module": "billiard.exceptions",
    }  # fmt: skip


async def test_soft_time_limit_is_raised_inside(worker: Worker, redis: Redis) -> None:
    """A task over its soft limit gets the exception where it waits, and may still return."""
    meta = await final_state(redis, await send(redis, "t.sleep", 60, soft_time_limit=0.1))
    assert (meta["status"], meta["result"]) == ("SUCCESS", "told")


async def test_terminate_stops_one_task_only(worker: Worker, redis: Redis) -> None:
    """A terminated task is REVOKED while its neighbour runs to its end."""
    doomed, other = await send(redis, "t.sleep", 60), await send(redis, "t.sleep", 0.3)
    async with asyncio.timeout(60):
        while not worker.terminate(doomed):
            await asyncio.sleep(0.01)
    meta = await final_state(redis, doomed)
    assert (meta["status"], meta["result"]["exc_message"]) == ("REVOKED", ["terminated"])
    assert (await final_state(redis, other))["result"] == "slept"


async def test_drain_gives_back_what_it_did_not_end(redis_url: str, redis: Redis) -> None:
    """A worker that stops in a hurry returns its running tasks to the list, and leaves no key."""
    async with Worker(registry, broker_url=redis_url, concurrency=2, drain_s=0.05) as worker:
        ids = [await send(redis, "t.sleep", 60) for _ in range(4)]
        async with asyncio.timeout(60):
            while len(list(worker.unsettled)) < 2:
                await asyncio.sleep(0.01)
    assert not await redis.hlen("unacked")
    kept = [json.loads(raw)["headers"]["id"] for raw in await redis.lrange("celery", 0, -1)]
    assert sorted(kept) == sorted(ids)
    for key in await redis.keys("crucible:*"):
        assert await redis.ttl(key) > 0, key

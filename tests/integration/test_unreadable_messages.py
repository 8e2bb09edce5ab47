"""Messages that cannot be run, with an id: a dead letter, and a failure for whoever waits."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.fleet_rig import final_state, listening, send, until

from crucible.broker.wire.encode import encode_task
from crucible.worker.registry import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from crucible.worker.context import TaskContext

registry = TaskRegistry()
notified: list[str] = []


@registry.task("u.add")
async def add(ctx: TaskContext, x: int, y: int) -> int:
    """A sum."""
    return x + y


@registry.task("u.quiet", ignore_result=True)
async def quiet(ctx: TaskContext) -> None:
    """Nobody waits for it."""


@registry.task("u.kept", keep_failed=True)
async def kept(ctx: TaskContext) -> None:
    """Kept when it fails."""


@registry.task("u.report")
async def report(ctx: TaskContext, request: Any, error: BaseException, traceback: str) -> None:
    """An errback."""
    notified.append(request.id)


@asynccontextmanager
async def serving(redis_url: str, **options: Any) -> AsyncIterator[None]:
    """A worker."""
    async with Worker(registry, broker_url=redis_url, concurrency=2, **options):
        yield


def spoilt(task_id: str, name: str = "u.add", **changes: Any) -> bytes:
    """A message with other headers, or with ``body`` as its body."""
    envelope = json.loads(encode_task(name, [1, 2], task_id=task_id))
    envelope["body"] = changes.pop("body", envelope["body"])
    envelope["content-type"] = changes.pop("content_type", envelope["content-type"])
    envelope["headers"].update(changes)
    return json.dumps(envelope).encode()


async def letter_of(redis: Redis) -> dict[bytes, bytes]:
    """The only dead letter, once nothing is claimed."""

    async def ended() -> bool:
        return await redis.xlen("crucible:dlq") == 1 and not await redis.hlen("unacked")

    await until(ended)
    rows: Any = await redis.xrange("crucible:dlq")
    ((_, fields),) = rows
    found: dict[bytes, bytes] = fields
    return found


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"eta": "soon"}, "eta 'soon' is not an ISO 8601 time"),
        ({"expires": 7}, "expires 7 is not an ISO 8601 time"),
        ({"timelimit": 3}, "timelimit is not a pair"),
        ({"timelimit": [True, None]}, "timelimit is not a pair of numbers"),
        ({"retries": -1}, "retries is not a count"),
        ({"group": 5}, "group is not a string"),
        ({"root_id": [], "eta": "soon"}, "root_id is not a string"),
        ({"body": "e30="}, "body is not [args, kwargs, embed]"),
        ({"body": "%%%"}, "body is not application/json"),
        ({"compression": "rar"}, "compression"),
        ({"content_type": "application/x-python-serialize"}, "is refused"),
        ({"task": None}, "task is missing"),
    ],
    ids=str,
)
async def test_a_waiter_is_told_and_the_message_kept(
    redis: Redis, redis_url: str, changes: dict[str, Any], detail: str
) -> None:
    """FAILURE with stock's exception, an event, and the letter with id, reason and exact bytes."""
    raw = spoilt("bad", **changes)
    await redis.lpush("celery", raw)
    async with listening(redis_url) as events, serving(redis_url, events=True):
        meta = await final_state(redis, "bad")
        letter = await letter_of(redis)
        if "task" not in changes:
            await events.until_kind("bad", "failed")
            assert events.kinds("bad") == ["failed"]
    assert meta["status"] == "FAILURE"
    assert meta["result"]["exc_type"] == "InvalidTaskError"
    assert meta["result"]["exc_module"] == "celery.exceptions"
    assert detail in meta["result"]["exc_message"][0]
    assert (letter[b"reason"], letter[b"task_id"], letter[b"raw"]) == (b"unreadable", b"bad", raw)
    assert detail in letter[b"detail"].decode()


async def test_protocol_1_has_its_id_in_the_body(redis: Redis, redis_url: str) -> None:
    """And it is found there."""
    body = {"task": "u.add", "id": "old", "args": [1, 2], "kwargs": {}, "eta": "soon"}
    envelope = json.loads(encode_task("u.add", task_id="old"))
    envelope |= {"headers": {}, "body": base64.b64encode(json.dumps(body).encode()).decode()}
    await redis.lpush("celery", json.dumps(envelope))
    async with serving(redis_url):
        assert (await final_state(redis, "old"))["result"]["exc_type"] == "InvalidTaskError"
        assert (await letter_of(redis))[b"task_id"] == b"old"


async def test_who_ignores_results_gets_none(redis: Redis, redis_url: str) -> None:
    """By the task or by the message; a task whose failures are kept has one letter, not two."""
    async with serving(redis_url):
        for number, raw in enumerate(
            (
                spoilt("a", "u.quiet", eta="soon"),
                spoilt("b", ignore_result=True, eta="soon"),
                spoilt("c", "u.kept", eta="soon"),
            )
        ):
            await redis.delete("crucible:dlq")
            await redis.lpush("celery", raw)
            letter = await letter_of(redis)
            assert letter[b"reason"] == b"unreadable"
            stored = await redis.exists(f"celery-task-meta-{'abc'[number]}")
            assert stored == (number == 2)


async def test_what_waits_behind_it_fails_too(redis: Redis, redis_url: str) -> None:
    """The rest of its chain fails, and its errback is called."""
    notified.clear()
    plain: dict[str, Any] = {"args": [], "kwargs": {}, "subtask_type": None, "immutable": False}
    following = {**plain, "task": "u.add", "options": {"task_id": "next"}}
    errback = {**plain, "task": "u.report", "options": {}}
    await send(redis, "u.add", 1, 2, task_id="first", chain=[following], link_error=[errback])
    raw = json.loads((await redis.rpop("celery")).decode())  # type: ignore[union-attr]
    raw["headers"]["eta"] = "soon"
    await redis.lpush("celery", json.dumps(raw))
    async with serving(redis_url):
        for task_id in ("first", "next"):
            found = await final_state(redis, task_id)
            assert found["result"]["exc_type"] == "InvalidTaskError"
        await letter_of(redis)
    assert notified == ["first"]

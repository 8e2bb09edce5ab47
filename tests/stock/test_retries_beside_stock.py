"""Retries, and what a task finds of its message: ours, and in stock's workers, as stock's own."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from stock_rig.environments import PROJECT
from stock_rig.mask import masked_structure
from stock_rig.worker import StockWorker
from support.retry_cases import ERRORS, PARKED, REQUEST, RETRIES
from support.retry_tasks import registry

from crucible.broker.canvas.signature import signature
from crucible.broker.wire.encode import encode_task
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.embedded.server import EmbeddedServer

pytestmark = [pytest.mark.stock, pytest.mark.asyncio(loop_scope="module")]

FINAL = ("SUCCESS", "FAILURE", "REVOKED")


class Side:
    """One worker and the database it serves."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def result(self, raw: bytes, task_id: str) -> dict[str, Any]:
        """The final state a message comes to."""
        key = f"celery-task-meta-{task_id}"
        async with asyncio.timeout(30), self._redis.pubsub() as pubsub:
            await pubsub.subscribe(key)
            await self._redis.lpush("celery", raw)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
                meta: dict[str, Any] = json.loads(message["data"]) if message else {}
                if meta.get("status") in FINAL:
                    return meta

    async def parked(self, raw: bytes) -> dict[str, Any]:
        """The message of the next try."""
        await self._redis.lpush("celery", raw)
        popped: Any = await self._redis.brpop([PARKED], 30)
        assert popped, "no next try came"
        message: dict[str, Any] = json.loads(popped[1])
        return message


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(redis_server: EmbeddedServer) -> AsyncIterator[dict[str, Side]]:
    """Stock's own tasks, the registry in a stock worker, and the registry in an async worker."""
    urls = [f"redis://127.0.0.1:{redis_server.port}/{database}" for database in (13, 14, 15)]
    clients = [Redis.from_url(url) for url in urls]
    for client in clients:
        await client.flushdb()
    stock = StockWorker(PROJECT, urls[0], app="support.retry_stock_app")
    bridge = StockWorker(PROJECT, urls[1], app="support.retry_bridge_app")
    async with stock, bridge, Worker(registry, broker_url=urls[2], concurrency=2):
        yield dict(zip(("stock", "bridge", "async"), map(Side, clients), strict=True))
    for client in clients:
        await client.flushdb()
        await client.aclose()


@pytest.fixture(params=["bridge", "async"])
def pair(sides: dict[str, Side], request: pytest.FixtureRequest) -> tuple[Side, Side]:
    """Stock's own tasks, and the registry's."""
    return sides["stock"], sides[request.param]


def message(name: str, *args: Any, **kwargs: Any) -> tuple[bytes, str]:
    """A message of a stock producer, and its id."""
    task_id = str(uuid.uuid4())
    return encode_task(name, args, kwargs, task_id=task_id), task_id


async def both(pair: tuple[Side, Side], raw: bytes, task_id: str) -> tuple[Any, Any]:
    """Status and result with each."""
    stock, ours = [await side.result(raw, task_id) for side in pair]
    return [stock["status"], stock["result"]], [ours["status"], ours["result"]]


@pytest.mark.parametrize("case", RETRIES)
async def test_the_next_try_is_published_as_stock_publishes_it(
    pair: tuple[Side, Side], case: str
) -> None:
    """Arguments, expiry, limits, name and headers, in the queue that was named."""
    raw, _ = message("retry.ask", case, 1, y=2)
    stock, ours = [await side.parked(raw) for side in pair]
    for shown in (stock, ours):
        # Stock writes what the task's own definition says, and lists as tuples.
        shown["headers"]["ignore_result"] = None
        shown["headers"]["argsrepr"] = shown["headers"]["argsrepr"].strip("()[]").rstrip(",")
    if case == "expires":
        left = [int(shown["properties"].pop("expiration")) for shown in (stock, ours)]
        assert all(3_000_000 < milliseconds <= 3_600_000 for milliseconds in left)
    assert masked_structure(json.dumps(ours)) == masked_structure(json.dumps(stock))


@pytest.mark.parametrize("named", [True, False], ids=["an exception", "no exception"])
@pytest.mark.parametrize("limit", [None, 0, 3])
async def test_tries_are_bounded_as_by_stock(
    pair: tuple[Side, Side], limit: int | None, named: bool
) -> None:
    """By the limit that was named, and the task's own where none was."""
    stock, ours = await both(pair, *message("retry.bounded", limit, named))
    assert ours[0] == stock[0] == "FAILURE"
    if named:
        assert ours[1] == stock[1]
        assert ours[1]["exc_message"] == [limit if limit is not None else 1]
    else:
        assert ours[1]["exc_type"] == stock[1]["exc_type"] == "MaxRetriesExceededError"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("task", ["retry.auto", "retry.auto_plain"])
async def test_tasks_are_tried_again_for_the_errors_they_name(
    pair: tuple[Side, Side], task: str, error: str
) -> None:
    """Subclasses too, but for those excluded; what is left in the end is the last error."""
    stock, ours = await both(pair, *message(task, error))
    assert ours == stock
    assert ours[1]["exc_message"] == [2 if error in ("subclass", "second") else 0]


@pytest.mark.parametrize("limit", [0, 1, 4])
async def test_a_limit_the_task_asks_for_goes_before_its_definition(
    pair: tuple[Side, Side], limit: int
) -> None:
    """The error that says so is not tried again for, though it is among those named."""
    stock, ours = await both(pair, *message("retry.auto_asks", limit))
    assert ours == stock
    assert ours[1]["exc_message"] == [limit]


async def test_a_rejection_is_an_exception_like_others(pair: tuple[Side, Side]) -> None:
    """Where a task is tried again for every exception, as by stock."""
    stock, ours = await both(pair, *message("retry.auto_rejects"))
    assert ours[0] == stock[0] == "FAILURE"
    assert ours[1]["exc_type"] == stock[1]["exc_type"] == "Reject"
    assert ours[1]["exc_message"][0] == "no 2"


async def test_a_task_finds_of_its_message_what_stock_finds(pair: tuple[Side, Side]) -> None:
    """Every property that stock's request has under the same name."""
    task_id = str(uuid.uuid4())
    raw = encode_task(
        "retry.request",
        [1, "x"],
        {"k": None},
        task_id=task_id,
        priority=3,
        options={
            "expires": "2099-01-01T00:00:00+00:00",
            "eta": "2001-01-01T00:00:00+00:00",
            "time_limit": 90.0,
            "soft_time_limit": 60,
            "group_id": "of-a-group",
            "group_index": 2,
            "root_id": "the-first",
            "parent_id": "its-parent",
            "shadow": "another name",
            "reply_to": "somewhere",
            "stamped_headers": ["s"],
            "stamps": {"s": [1]},
            "link": signature("retry.bounded", (0, True), immutable=True, task_id="a-callback"),
            "chain": [signature("retry.bounded", (0, True), immutable=True, task_id="a-step")],
        },
    )
    stock, ours = await both(pair, raw, task_id)
    assert stock[0] == "SUCCESS", stock
    assert ours == stock
    assert ours[1].keys() == set(REQUEST)
    assert ours[1]["correlation_id"] == task_id


async def test_an_empty_chain_is_refused_as_by_stock(pair: tuple[Side, Side]) -> None:
    """The exception's type and text are stock's."""
    empty = {
        "task": "celery.chain", "args": [], "kwargs": {"tasks": []}, "options": {},
        "subtask_type": "chain", "immutable": False,
    }  # fmt: skip
    stock, ours = await both(pair, *message("retry.replaced_by", empty))
    assert ours == stock
    assert ours[1]["exc_type"] == "ImproperlyConfigured"

"""The task that reports ends which no hooks saw, as an async worker runs it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support.patience import PATIENCE_S

from crucible.broker import Publisher
from crucible.broker.results.meta import FAILURE, REVOKED, STARTED
from crucible.errors import TaskFailed
from crucible.evaluation.completions import CompletionCounter
from crucible.evaluation.end_report import TASK, EndReporter, report_call, report_end
from crucible.evaluation.record import Record, encode_record, once_name, task_id_of
from crucible.redis_keys import Keys
from crucible.webhooks.subscriptions import Subscriptions
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from crucible.events.event import Event

KEYS = Keys()
EXPIRED = {"exc_type": "TaskRevokedError", "exc_message": ["expired"], "exc_module": "celery"}


class Events(list["Event"]):
    """What was written."""

    def add(self, event: Event) -> None:
        """Take one."""
        self.append(event)


@asynccontextmanager
async def reporting(redis_url: str, redis: Redis) -> AsyncIterator[tuple[Publisher, Events]]:
    """A worker of the task, and what it writes."""
    events = Events()

    @asynccontextmanager
    async def platform() -> AsyncIterator[Any]:
        yield SimpleNamespace(
            ends=EndReporter(
                redis,
                redis,
                KEYS,
                events=events,
                subscriptions=Subscriptions(),
                completions=CompletionCounter(),
            )
        )

    registry = TaskRegistry(platform)
    registry.task(TASK, max_retries=None)(report_end)
    async with (
        Worker(registry, broker_url=redis_url, queues=("maintenance",)),
        Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher,
    ):
        yield publisher, events


async def keep(redis: Redis, eval_id: str, status: str, result: Any = None, **fields: Any) -> None:
    """An evaluation's record and its stored result."""
    record = Record(b"", 1, "batch", "c", **fields)
    await redis.set(KEYS.idempotency(once_name(eval_id)), encode_record(record))
    meta = {"status": status, "result": result, "task_id": task_id_of(eval_id)}
    await redis.set(KEYS.result(task_id_of(eval_id)), msgspec.json.encode(meta))


async def report(publisher: Publisher, eval_id: str, **headers: Any) -> None:
    """Have an end reported, as a stock worker does."""
    call = report_call(task_id_of(eval_id), {}, headers, queue="evaluation", worker="s@h")
    assert call is not None
    sent = await publisher.send_task(call.name, kwargs=call.kwargs, queue=call.queue)
    await sent.get(timeout=PATIENCE_S)


async def deliveries(redis: Redis) -> list[str]:
    """Ids of the deliveries that wait."""
    raw = await redis.lrange(KEYS.step_list("webhooks", 0), 0, -1)
    return [msgspec.json.decode(one)["headers"]["id"] for one in raw]


async def test_an_end_is_reported_as_its_result_says(redis_url: str, redis: Redis) -> None:
    """Again with the same ids; of a later attempt with others."""
    url = "http://hooks.example/"
    async with reporting(redis_url, redis) as (publisher, events):
        await keep(redis, "acme:one", REVOKED, webhook_url=url)
        await keep(redis, "two", REVOKED, EXPIRED)
        await keep(redis, "three", FAILURE, {"exc_type": "WorkerLostError", "exc_message": ["x"]})
        await report(publisher, "acme:one")
        await report(publisher, "acme:one")
        await report(publisher, "acme:one", crucible_attempt=1)
        await report(publisher, "two")
        await report(publisher, "three")
    first, again, later, expired, failed = events
    assert (first.eval_id, first.tenant, first.transition) == ("one", "acme", "cancelled")
    assert (first.queue, first.worker, first.attempt) == ("evaluation", "s@h", 0)
    assert (again.seq, later.attempt) == (first.seq, 1)
    assert later.seq > first.seq
    assert (expired.transition, expired.status) == ("expired", "failed")
    assert (failed.transition, failed.message) == ("failed", "WorkerLostError: x")
    third, second, one = await deliveries(redis)
    assert one == second != third


@pytest.mark.parametrize(
    ("status", "fields"),
    [(STARTED, {}), (REVOKED, {"purged": True}), (None, {})],
    ids=["runs", "forgotten", "gone"],
)
async def test_what_has_not_ended_or_is_forgotten_is_not_reported(
    redis_url: str, redis: Redis, status: str | None, fields: dict[str, Any]
) -> None:
    """Another message of it may be in a queue again."""
    async with reporting(redis_url, redis) as (publisher, events):
        if status is not None:
            await keep(redis, "one", status, webhook_url="http://hooks.example/", **fields)
        await report(publisher, "one")
        assert (events, await deliveries(redis)) == ([], [])


@pytest.mark.parametrize("end", [{}, {"eval_id": "Not A Tenant!:x"}, {"eval_id": ""}])
async def test_a_message_of_no_evaluation_fails(
    redis_url: str, redis: Redis, end: dict[str, Any]
) -> None:
    """Anybody with access to the queue may send anything."""
    async with reporting(redis_url, redis) as (publisher, events):
        sent = await publisher.send_task(TASK, kwargs={"end": end}, queue="maintenance")
        with pytest.raises(TaskFailed, match="InputError"):
            await sent.get(timeout=PATIENCE_S)
    assert events == []


def test_other_tasks_are_not_reported() -> None:
    """Nor evaluations under ids that clients do not know."""
    assert report_call("some-task", {}, {}, queue="q", worker=None) is None
    assert report_call("eval-B!:x", {}, {}, queue="q", worker=None) is None

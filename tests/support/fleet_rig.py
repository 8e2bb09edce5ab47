"""Receiving events, and sending tasks as stock producers do, for tests of workers."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from redis.asyncio import Redis

from crucible.broker.wire.encode import encode_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from crucible.broker.wire.encode import TaskOptions

#: Seconds that only a fault uses up: on a busy machine everything takes many times as long.
WAIT_S = 60.0


class Events:
    """Every event of a database while the context is open.

    Attributes:
        seen: the events in the order they arrived.
        channels: the channel of each.
        batches: whether each arrived in a list.
    """

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.channels: list[str] = []
        self.batches: list[bool] = []
        self._news = asyncio.Condition()

    async def collect(self, pubsub: Any) -> None:
        async for message in pubsub.listen():
            if message["type"] != "pmessage":
                continue
            body = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
            events = body if isinstance(body, list) else [body]
            async with self._news:
                self.seen += events
                self.channels += [message["channel"].decode()] * len(events)
                self.batches += [isinstance(body, list)] * len(events)
                self._news.notify_all()

    def of(self, task_id: str) -> list[dict[str, Any]]:
        """The events of one task, in order."""
        return [event for event in self.seen if event.get("uuid") == task_id]

    @property
    def ended(self) -> set[str]:
        """Ids of the tasks with a ``task-succeeded`` event."""
        return {event["uuid"] for event in self.seen if event["type"] == "task-succeeded"}

    def kinds(self, task_id: str) -> list[str]:
        """The same without the common prefix of the ids."""
        return [event["type"].removeprefix("task-") for event in self.of(task_id)]

    async def until(self, wanted: Callable[[], bool], timeout: float = WAIT_S) -> None:
        """Wait for events until ``wanted`` is true."""
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(wanted)
        except TimeoutError:
            kinds = [(event["type"], event.get("uuid")) for event in self.seen[-20:]]
            raise AssertionError(f"events missing; the last ones: {kinds}") from None

    async def until_kind(self, task_id: str, kind: str) -> list[dict[str, Any]]:
        """The events of a task, once one of ``kind`` has arrived."""
        await self.until(lambda: kind in self.kinds(task_id))
        return self.of(task_id)

    async def until_worker(self, kind: str, node: str) -> dict[str, Any]:
        """The latest worker event of a kind."""

        def found() -> list[dict[str, Any]]:
            return [e for e in self.seen if (e["type"], e["hostname"]) == (f"worker-{kind}", node)]

        await self.until(lambda: bool(found()))
        return found()[-1]


@asynccontextmanager
async def listening(url: str, prefix: str = "") -> AsyncIterator[Events]:
    """Subscribe to events."""
    db = urlsplit(url).path.strip("/")
    events = Events()
    async with Redis.from_url(url, client_name="watcher") as client, client.pubsub() as pubsub:
        await pubsub.psubscribe(f"{prefix}/{db}.celeryev/*")
        await pubsub.get_message(timeout=5)
        collecting = asyncio.create_task(events.collect(pubsub))
        try:
            yield events
        finally:
            collecting.cancel()
            await asyncio.wait([collecting])


async def send(
    redis: Redis, name: str, *args: Any, queue: str = "celery", task_id: str, **options: Any
) -> str:
    """Push one message; returns its id."""
    raw = encode_task(
        name, args, task_id=task_id, queue=queue, options=cast("TaskOptions", options)
    )
    await redis.lpush(queue, raw)
    return task_id


async def stored(redis: Redis, task_id: str) -> dict[str, Any] | None:
    """The stored state of a task."""
    raw = await redis.get(f"celery-task-meta-{task_id}")
    return None if raw is None else cast("dict[str, Any]", json.loads(raw))


async def until(wanted: Callable[[], Any], timeout: float = WAIT_S) -> Any:
    """Poll ``wanted``, plain or async, until its result is true; returns it."""
    async with asyncio.timeout(timeout):
        while True:
            value = wanted()
            if asyncio.iscoroutine(value) or isinstance(value, asyncio.Future):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.01)


async def final_state(redis: Redis, task_id: str) -> dict[str, Any]:
    """The final state of a task."""

    async def ended() -> dict[str, Any] | None:
        meta = await stored(redis, task_id)
        return meta if meta and meta["status"] in ("SUCCESS", "FAILURE", "REVOKED") else None

    meta: dict[str, Any] = await until(ended)
    return meta

"""``POST /api/eval?wait=``: answered from what the worker published, without another look."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.api_rig import running_api

from crucible.broker.results import waiter
from crucible.broker.results.lookup import Lookup
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp
    import pytest
    from redis.asyncio import Redis

    from crucible.worker import TaskContext

registry = TaskRegistry()


@registry.task("tasks.evaluate_code", track_started=True)
async def evaluate(ctx: TaskContext, eval_id: str, code: str, language: str, **_: Any) -> Any:
    """Stands for a program that prints its code."""
    return {"verdict": "ok", "status": "completed", "eval_id": eval_id, "output": code}


def serving(redis_url: str) -> Worker:
    return Worker(registry, broker_url=redis_url, queues=("evaluation",))


async def post(
    client: aiohttp.ClientSession, wait: str = "30", **body: Any
) -> tuple[int, dict[str, Any]]:
    async with client.post(f"/api/eval?wait={wait}", json=body) as response:
        return response.status, await response.json()


async def show(client: aiohttp.ClientSession, eval_id: str) -> dict[str, Any]:
    async with client.get(f"/api/eval/{eval_id}") as response:
        view: dict[str, Any] = await response.json()
        return view


async def test_the_answer_is_what_a_look_would_find(redis_url: str) -> None:
    """Nothing is left out of it, and nothing made up."""
    async with running_api(redis_url) as client, serving(redis_url):
        asked: dict[str, Any] = {"eval_id": "e", "priority": 6, "metadata": {"k": [1]}}
        status, answer = await post(client, code="42", **asked)
        assert (status, answer["status"], answer["output"]) == (200, "completed", "42")
        assert (answer["queue"], answer["metadata"]) == ("evaluation", {"k": [1]})
        assert answer == await show(client, "e")


async def test_a_repetition_waits_for_the_first_one(redis_url: str, redis: Redis) -> None:
    """It runs once; both answers are the same."""
    async with running_api(redis_url) as client:
        first, second = (
            asyncio.create_task(post(client, code="1", eval_id="twice")) for _ in range(2)
        )
        async with asyncio.timeout(60):
            while not await redis.llen("evaluation\x06\x163"):
                await asyncio.sleep(0.01)
        async with serving(redis_url) as worker:
            assert await first == await second
            assert worker.node.task_events.totals.total() == 1
        assert await post(client, code="1", eval_id="twice") == await first
        assert (await post(client, code="2", eval_id="twice"))[0] == 409


async def test_a_repetition_finds_what_ended_long_ago(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is published any more, so it is looked for at once."""
    monkeypatch.setattr(waiter, "LATE_LOOK_S", 600.0)
    monkeypatch.setattr(waiter, "SAFETY_LOOK_S", 600.0)
    async with running_api(redis_url) as client, serving(redis_url):
        first = await post(client, code="1", eval_id="again")
        assert first[0] == 200
        assert await post(client, code="1", eval_id="again") == first


async def test_no_subscription_is_left(redis_url: str, redis: Redis) -> None:
    """Not by one that ended, by one that ran out, or by one that was refused."""
    async with running_api(redis_url, queue_limit=1) as client:
        assert (await post(client, "0.05", code="1", eval_id="left-1"))[0] == 202
        assert (await post(client, "30", code="1", eval_id="left-2"))[0] == 503
        async with serving(redis_url):
            async with asyncio.timeout(60):
                while await redis.llen("evaluation\x06\x163"):
                    await asyncio.sleep(0.01)
            assert (await post(client, code="1", eval_id="left-3"))[0] == 200
        async with asyncio.timeout(60):
            # By name: the server answers for all databases, those of other tests as well.
            while await redis.pubsub_channels("celery-task-meta-eval-left-*"):
                await asyncio.sleep(0.01)


async def test_an_end_whose_publication_was_lost_is_found(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subscription is cut while the program waits: a look takes the place of the push."""
    looked: list[Sequence[str]] = []
    metas = Lookup.metas

    async def noted(self: Lookup, task_ids: Sequence[str]) -> list[Any]:
        looked.append(task_ids)
        return await metas(self, task_ids)

    monkeypatch.setattr(Lookup, "metas", noted)
    async with running_api(redis_url) as client:
        waiting = asyncio.create_task(post(client, code="1", eval_id="cut"))
        async with asyncio.timeout(60):
            while not await redis.pubsub_channels("celery-task-meta-eval-cut"):
                await asyncio.sleep(0.01)
            while not await redis.llen("evaluation\x06\x163"):
                await asyncio.sleep(0.01)
        await redis.client_kill_filter(_type="pubsub")
        async with serving(redis_url):
            status, answer = await waiting
        assert (status, answer["status"]) == (200, "completed")
    assert ["eval-cut"] in looked

"""A stock worker delivers webhooks: ends of evaluations, and what operators are notified of."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from stock_rig.environments import PROJECT
from stock_rig.worker import StockWorker
from support.api_rig import running_api
from support.keyed import make_key
from support.patience import PATIENCE_S
from support.receiver import listening_receiver, verify

from crucible.broker import Publisher
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp
    from redis.asyncio import Redis
    from support.receiver import Received

LOOPBACK = "127.0.0.0/8"
HOOKS = "/api/v1/webhooks"


@asynccontextmanager
async def running(redis_url: str) -> AsyncIterator[tuple[aiohttp.ClientSession, Received]]:
    """An api, a stock worker of maintenance and webhooks, and a receiver."""
    async with AsyncExitStack() as stack:
        received = await stack.enter_async_context(listening_receiver())
        client = await stack.enter_async_context(
            running_api(redis_url, webhook_networks=(LOOPBACK,))
        )
        worker = StockWorker(
            PROJECT,
            redis_url,
            queues=("maintenance", "webhooks"),
            app="crucible.celery_app",
            environment={"CELERY_BROKER_URL": redis_url, "CRUCIBLE_WEBHOOK_NETWORKS": LOOPBACK},
        )
        await stack.enter_async_context(worker)
        yield client, received


async def made(
    client: aiohttp.ClientSession, body: dict[str, Any], **headers: Any
) -> tuple[int, dict[str, Any]]:
    """A webhook that was asked for: status and answer."""
    async with client.post(HOOKS, json=body, **headers) as response:
        return response.status, msgspec.json.decode(await response.read())


async def test_a_stock_worker_delivers_an_end(redis_url: str) -> None:
    """The task is on a queue of its own, and signed as an async worker signs it."""
    async with running(redis_url) as (client, received):
        _, webhook = await made(client, {"url": received.url})
        body = {"code": "print(1)", "eval_id": "stopped"}
        async with client.post("/api/eval", json=body) as response:
            assert response.status == 202
        async with client.delete("/api/eval/stopped") as response:
            assert response.status == 200
        [(headers, sent)] = await received.until(1)
    event = verify(webhook["secret"], headers, sent)
    assert (event["type"], event["data"]["eval_id"]) == ("evaluation.cancelled", "stopped")


async def test_operators_are_notified_of_new_dead_letters(redis_url: str, redis: Redis) -> None:
    """By the analysis, which any worker runs; once for each letter, and only where it is asked."""
    async with running(redis_url) as (client, received):
        events = ["dead_letters.growing"]
        status, webhook = await made(client, {"url": received.url, "events": events})
        assert (status, webhook["events"]) == (201, events)
        await made(client, {"url": f"{received.url}/others"})
        await letter(redis, "failed")
        await letter(redis, "unreadable")
        async with Publisher.connect(redis_url) as publisher:
            assert await analysed(publisher) == 2
            assert await analysed(publisher) == 0
            await letter(redis, "failed")
            assert await analysed(publisher) == 1
        sent = await received.until(2)
    found = [verify(webhook["secret"], *one) for one in sent]
    assert {one["type"] for one in found} == {"dead_letters.growing"}
    assert sorted((one["data"]["new"], one["data"]["total"]) for one in found) == [(1, 3), (2, 2)]
    [first] = [one["data"] for one in found if one["data"]["new"] == 2]
    assert first["by_cause"] == {"failed": 1, "unreadable": 1}
    assert first["by_queue"] == {"evaluation": 2}


async def test_only_admins_are_notified_of_dead_letters(redis_url: str) -> None:
    """They are of all tenants."""
    asked = {"url": "https://acme.example/", "events": ["dead_letters.growing"]}
    async with running_api(redis_url) as client:
        key = await make_key(redis_url, "acme")
        admin = await make_key(redis_url, "acme", "submit", "read", "admin", name="operator")
        assert (await made(client, asked, headers=key.headers))[0] == 403
        assert (await made(client, asked, headers=admin.headers))[0] == 201


async def letter(redis: Redis, reason: str) -> None:
    """A dead letter of an evaluation."""
    fields: dict[Any, Any] = {
        "raw": b"x", "queue": "evaluation", "reason": reason, "task": "tasks.evaluate_code",
    }  # fmt: skip
    await redis.xadd(Keys().dlq, fields)


async def analysed(publisher: Publisher) -> int:
    """How many letters an analysis found new."""
    sent = await publisher.send_task("tasks.process_dlq", queue="maintenance")
    found = await sent.get(timeout=PATIENCE_S)
    return int(found["new"])

"""Rates and in-flight maxima hold for what goes to the legacy queue as for what Celery gets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.api_rig import running_api
from support.keyed import Made, make_key
from support.migration_rig import LegacyInstallation, LocalExecutor, until

from crucible.redis_keys import Keys

if TYPE_CHECKING:
    import aiohttp
    from redis.asyncio import Redis

#: One submission in a thousand seconds: nothing is freed while a test runs.
SLOW = 0.001
PROGRAM = {"code": "print(1)"}


def tiers(**table: Any) -> dict[str, Any]:
    """Flags of an installation whose evaluations go to the legacy queue, with these rates."""
    return {"tiers": json.dumps({"standard": table}), "celery_enabled": False}


async def submit(client: aiohttp.ClientSession, key: Made, **fields: Any) -> tuple[int, Any, Any]:
    """Status, body and header of one submission."""
    body = {**PROGRAM, **fields}
    async with client.post("/api/eval", json=body, headers=key.headers) as response:
        return response.status, await response.json(), response.headers


async def test_what_the_legacy_queue_takes_is_charged(redis_url: str) -> None:
    """Once for each id, and the client is told what is left and when to come again."""
    key = await make_key(redis_url, "acme")
    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        flags = {**tiers(rate=SLOW, burst=2), "queue_service_url": legacy.url}
        async with running_api(redis_url, **flags) as client:
            status, answer, fields = await submit(client, key, eval_id="a")
            assert (status, answer["queue_system"]) == (202, "legacy")
            assert fields["RateLimit"].startswith('"submit";r=1;')
            assert (await submit(client, key, eval_id="a"))[0] == 200
            assert (await submit(client, key))[0] == 202
            status, _, fields = await submit(client, key)
            assert status == 429
            assert int(fields["Retry-After"]) > 0


async def test_a_batch_is_charged_by_the_item(redis_url: str) -> None:
    """Those that the rate allows are queued; the others say why not."""
    key = await make_key(redis_url, "acme")
    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        flags = {**tiers(rate=SLOW, burst=2), "queue_service_url": legacy.url}
        async with running_api(redis_url, **flags) as client:
            async with client.post(
                "/api/eval/batch", json=[PROGRAM] * 4, headers=key.headers
            ) as response:
                answer = await response.json()
    assert answer["request_counts"] == {"total": 4, "accepted": 2, "rejected": 2}
    refused = [one for one in answer["items"] if one["status"] == "rejected"]
    assert [one["error"]["status"] for one in refused] == [429, 429]


async def test_what_has_ended_there_is_not_in_flight(redis_url: str, redis: Redis) -> None:
    """Its end makes room, whether somebody counted it or not."""
    key = await make_key(redis_url, "acme")
    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        flags = {**tiers(in_flight=1), "queue_service_url": legacy.url}
        async with running_api(redis_url, **flags) as client:
            status, first, _ = await submit(client, key)
            assert status == 202
            assert (await submit(client, key))[0] == 429
            legacy.add_workers(1)
            result = Keys().legacy_result(f"acme:{first['eval_id']}")
            await until(lambda: redis.exists(result))
            # As if the process that counted the end had been killed first.
            name, record = (
                Keys().in_flight("acme"),
                Keys().idempotency(f"eval:acme:{first['eval_id']}"),
            )
            await redis.zadd(name, {record: 2e9})
            assert (await submit(client, key))[0] == 202


async def test_what_the_legacy_queue_refuses_is_not_in_flight(redis_url: str, redis: Redis) -> None:
    """The place of a submission that failed is free again."""
    key = await make_key(redis_url, "acme")
    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        flags = {**tiers(in_flight=1), "queue_service_url": legacy.url}
        async with running_api(redis_url, **flags) as client:
            await legacy.crash()
            assert (await submit(client, key))[0] == 503
            assert await redis.zcard(Keys().in_flight("acme")) == 0
            await legacy.start()

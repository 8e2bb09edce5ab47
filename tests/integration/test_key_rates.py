"""Rates and in-flight maxima of keys at the API."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import queued, running_api
from support.keyed import Made, make_key
from support.migration_rig import celery_worker
from support.patience import PATIENCE_S

from crucible.broker.wire.decode import decode
from crucible.evaluation.in_flight import InFlightSets
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp
    from redis.asyncio import Redis

PROGRAM = {"code": "print(1)"}
#: One submission in a thousand seconds: nothing is freed while a test runs.
SLOW = 0.001


def tiers(**table: Any) -> dict[str, Any]:
    """Flags of an installation whose standard tier is this one."""
    return {"tiers": json.dumps({"standard": table})}


async def submit(
    client: aiohttp.ClientSession, key: Made, **fields: Any
) -> tuple[int, dict[str, str]]:
    """Status and header of one submission."""
    body = {**PROGRAM, **fields}
    async with client.post("/api/eval", json=body, headers=key.headers) as response:
        await response.read()
        return response.status, dict(response.headers)


@pytest.mark.parametrize("direct", [True, False], ids=["fast_path", "handlers"])
async def test_a_client_is_told_what_is_left(redis_url: str, direct: bool) -> None:
    """With each submission and with each refusal, in the fields of the IETF's draft."""
    key = await make_key(redis_url, "acme")
    flags = tiers(rate=SLOW, burst=2)
    async with running_api(redis_url, direct=direct, **flags) as client:
        for left in (1, 0):
            status, fields = await submit(client, key)
            assert status == 202
            assert fields["RateLimit-Policy"] == '"submit";q=2;w=2000'
            found = re.fullmatch(r'"submit";r=(\d+);t=(\d+)', fields["RateLimit"])
            assert found
            assert int(found[1]) == left
            assert 0 < int(found[2]) <= 2000
        status, fields = await submit(client, key)
        assert status == 429
        assert fields["RateLimit-Policy"] == '"submit";q=2;w=2000'
        assert fields["RateLimit"].startswith('"submit";r=0;t=')
        assert 990 <= int(fields["Retry-After"]) <= 1000
        assert fields["Content-Type"].startswith("application/problem+json")


async def refusals(client: aiohttp.ClientSession) -> Counter[str]:
    """What was refused so far, by reason."""
    async with client.get("/metrics") as response:
        text = await response.text()
    found = re.findall(r'^key_refusals_total\{reason="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return Counter({reason: int(float(count)) for reason, count in found})


async def test_refusals_are_counted_by_reason(redis_url: str) -> None:
    """Each once, in requests of the fast path, of handlers, and in items of batches."""
    key = await make_key(redis_url, "acme")
    reader = await make_key(redis_url, "acme", "read")
    crowded = await make_key(redis_url, "crowd", tier="bulk")
    table = {"standard": {"rate": SLOW, "burst": 1}, "bulk": {"in_flight": 1}}
    async with running_api(redis_url, tiers=json.dumps(table)) as client:
        before = await refusals(client)
        assert set(before) == {"missing", "invalid", "scope", "rate", "in_flight"}
        for fields in ({}, {"X-API-Key": "crk_nonsense"}, reader.headers):
            async with client.post("/api/eval", json=PROGRAM, headers=fields) as response:
                assert response.status in (401, 403)
        assert [(await submit(client, key))[0] for _ in range(3)] == [202, 429, 429]
        items = [PROGRAM, PROGRAM, PROGRAM]
        async with client.post("/api/eval/batch", json=items, headers=crowded.headers) as response:
            assert (await response.json())["request_counts"]["rejected"] == 2
        assert await refusals(client) - before == Counter(
            missing=1, invalid=1, scope=1, rate=2, in_flight=2
        )


async def test_a_refused_key_costs_the_server_nothing(redis_url: str, redis: Redis) -> None:
    """Until the time that the server named is over, it is not asked again."""
    key = await make_key(redis_url, "acme")
    other = await make_key(redis_url, "other")
    async with running_api(redis_url, **tiers(rate=SLOW, burst=1)) as client:
        assert [(await submit(client, key))[0] for _ in range(2)] == [202, 429]
        before: Any = await redis.info("commandstats")
        assert {(await submit(client, key))[0] for _ in range(20)} == {429}
        after: Any = await redis.info("commandstats")
        calls = [stats["cmdstat_evalsha"]["calls"] for stats in (before, after)]
        assert calls[0] == calls[1]
        assert (await submit(client, other))[0] == 202
    assert len(await queued(redis)) == 2


async def test_a_tenant_has_a_rate_as_well(redis_url: str) -> None:
    """More keys are not more submissions."""
    keys = [await make_key(redis_url, "acme") for _ in range(3)]
    flags = tiers(rate=SLOW, burst=2, tenant_rate=SLOW, tenant_burst=3)
    async with running_api(redis_url, **flags) as client:
        statuses = [(await submit(client, key))[0] for _ in range(2) for key in keys]
    assert statuses.count(202) == 3


async def test_without_a_key_there_is_no_rate(redis_url: str, redis: Redis) -> None:
    """Nothing of it is in the answer, nor on the server."""
    async with running_api(redis_url, **tiers(rate=SLOW, burst=1)) as client:
        for _ in range(3):
            async with client.post("/api/eval", json=PROGRAM) as response:
                assert response.status == 202
                assert not any(name.startswith("RateLimit") for name in response.headers)
    assert not await redis.keys("crucible:rate:*")
    assert not await redis.keys("crucible:inflight:*")


async def test_four_processes_share_one_rate(redis_url: str, redis: Redis) -> None:
    """Under fire from all sides: what GCRA allows by the server's clock, no more and no less."""
    # Slow enough that even a busy machine asks for more than is freed.
    rate, burst = 5.0, 100
    key = await make_key(redis_url, "acme")
    async with AsyncExitStack() as stack:
        flags = tiers(rate=rate, burst=burst)
        clients = [
            await stack.enter_async_context(running_api(redis_url, **flags)) for _ in range(4)
        ]
        began = await seconds_of(redis)
        assert (await submit(clients[0], key))[0] == 202
        opened = await seconds_of(redis)
        accepted = 1

        async def fire(client: aiohttp.ClientSession) -> float:
            """Submit for seconds and until refused; when the refused request was sent."""
            nonlocal accepted
            while True:
                asked = await seconds_of(redis)
                status, _ = await submit(client, key)
                assert status in (202, 429)
                accepted += status == 202
                if status == 429 and asked >= opened + 4:
                    return asked

        refused = max(await asyncio.gather(*(fire(one) for one in clients for _ in range(4))))
        ended = await seconds_of(redis)
    # The first submission was between ``began`` and ``opened``. At the last refusal less than one
    # was left of what is allowed; one more may be freed while an api keeps a refusal.
    assert accepted <= burst + rate * (ended - began)
    assert accepted >= burst - 2 + rate * (refused - opened)
    assert len(await queued(redis)) == accepted


async def seconds_of(redis: Redis) -> float:
    """The server's clock."""
    seconds, micros = await redis.time()
    return float(seconds) + float(micros) / 1e6


async def test_clocks_of_api_hosts_do_not_matter(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that jumps by days to and fro with every look at it."""
    key = await make_key(redis_url, "acme")
    real, jumps = time.time, jumping()
    async with running_api(redis_url, **tiers(rate=SLOW, burst=5)) as client:
        monkeypatch.setattr("time.time", lambda: real() + next(jumps))
        monkeypatch.setattr("time.time_ns", lambda: int((real() + next(jumps)) * 1e9))
        statuses = [(await submit(client, key))[0] for _ in range(20)]
        monkeypatch.undo()
    assert statuses == [202] * 5 + [429] * 15


def jumping() -> Iterator[float]:
    """Days before and after now, in turns."""
    while True:
        yield 3 * 86_400.0
        yield -2 * 86_400.0


@pytest.mark.parametrize("direct", [True, False], ids=["fast_path", "handlers"])
async def test_as_many_are_in_flight_as_may_be(redis_url: str, direct: bool) -> None:
    """When one has ended there is room for the next at once, for all keys of the tenant."""
    keys = [await make_key(redis_url, "acme") for _ in range(2)]
    async with running_api(redis_url, direct=direct, **tiers(in_flight=2)) as client:
        for key in keys:
            assert (await submit(client, key))[0] == 202
        status, fields = await submit(client, keys[0])
        assert status == 429
        assert (fields["Retry-After"], fields["RateLimit"][:12]) == ("1", '"submit";r=0')
        async with celery_worker(redis_url):
            for _ in range(4):
                # Refused only while both run: each of these waits for its own end.
                async with client.post(
                    "/api/eval?wait=60", json=PROGRAM, headers=keys[1].headers
                ) as response:
                    assert response.status in (200, 429)
                await all_ended(client, keys[0], redis_url)
                assert (await submit(client, keys[1]))[0] == 202
                await all_ended(client, keys[0], redis_url)


async def all_ended(client: aiohttp.ClientSession, key: Made, redis_url: str) -> None:
    """Wait for the end of everything that the tenant has in flight."""
    from redis.asyncio import Redis

    async with Redis.from_url(redis_url) as redis:
        members: list[Any] = await redis.zrange(Keys().in_flight("acme"), 0, -1)
    for member in members:
        eval_id = member.decode().rpartition(":")[2]
        path = f"/api/eval/{eval_id}?wait=60"
        async with client.get(path, headers=key.headers) as response:
            assert (await response.json())["status"] == "completed"


async def test_an_end_that_nobody_counted_is_found(redis_url: str, redis: Redis) -> None:
    """A result that is stored, or a record that is gone, holds no place."""
    key = await make_key(redis_url, "acme")
    async with running_api(redis_url, **tiers(in_flight=2)) as client:
        assert [(await submit(client, key))[0] for _ in range(3)] == [202, 202, 429]
        first, second = [decode(raw).id for raw in await queued(redis)]
        # A stock worker that has it revoked stores this, and counts nothing.
        revoked = {"status": "REVOKED", "result": None, "task_id": first, "traceback": None}
        await redis.set(Keys().result(first), json.dumps(revoked))
        await redis.delete(Keys().idempotency(second.replace("eval-", "eval:", 1)))
        assert [(await submit(client, key))[0] for _ in range(3)] == [202, 202, 429]


@pytest.mark.parametrize("direct", [True, False], ids=["fast_path", "handlers"])
async def test_room_that_was_made_since_a_refusal_is_found(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    """Ends that are counted between the server's refusal and the look, which finds none then."""
    key, looked = await make_key(redis_url, "acme"), InFlightSets.release_ended

    async def counted_first(self: InFlightSets, tenant: str, *limits: Any) -> bool:
        await redis.zpopmin(Keys().in_flight(tenant))
        return await looked(self, tenant, *limits)

    monkeypatch.setattr(InFlightSets, "release_ended", counted_first)
    async with running_api(redis_url, direct=direct, **tiers(in_flight=2)) as client:
        assert [(await submit(client, key))[0] for _ in range(3)] == [202, 202, 202]


async def test_what_has_ended_leaves_the_set(redis_url: str, redis: Redis) -> None:
    """Whoever counts completions removes them, so that the set is what its name says."""
    key = await make_key(redis_url, "acme")
    async with running_api(redis_url) as client, celery_worker(redis_url):
        async with client.post("/api/eval?wait=60", json=PROGRAM, headers=key.headers) as response:
            assert (await response.json())["status"] == "completed"
        async with asyncio.timeout(PATIENCE_S):
            while await redis.zcard(Keys().in_flight("acme")):
                await asyncio.sleep(0.05)


async def batch(client: aiohttp.ClientSession, key: Made, count: int) -> tuple[int, Any]:
    """Status and body of the answer to a batch of programs."""
    items = [PROGRAM] * count
    async with client.post("/api/eval/batch", json=items, headers=key.headers) as response:
        return response.status, await response.json()


async def test_a_batch_is_charged_by_the_item(redis_url: str, redis: Redis) -> None:
    """What the rate allows is queued, and each of the others says why it is not."""
    key = await make_key(redis_url, "acme")
    async with running_api(redis_url, **tiers(rate=SLOW, burst=3)) as client:
        status, answer = await batch(client, key, 5)
        assert (status, answer["request_counts"]["accepted"]) == (202, 3)
        assert [item["status"] for item in answer["items"]] == ["queued"] * 3 + ["rejected"] * 2
        for item in answer["items"][3:]:
            assert item["error"]["status"] == 429
            assert 990 <= item["error"]["retry_after"] <= 1000
        status, problem = await batch(client, key, 2)
        assert (status, problem["request_counts"]["accepted"]) == (429, 0)
    assert len(await queued(redis)) == 3


async def test_a_batch_finds_ends_that_nobody_counted(redis_url: str, redis: Redis) -> None:
    """They make room for its items; items for which there is none are rejected."""
    key = await make_key(redis_url, "acme")
    async with running_api(redis_url, **tiers(in_flight=2)) as client:
        status, answer = await batch(client, key, 3)
        assert (status, answer["request_counts"]["accepted"]) == (202, 2)
        assert answer["items"][2]["error"]["status"] == 429
        for item in answer["items"][:2]:
            assert await redis.delete(Keys().idempotency(f"eval:acme:{item['eval_id']}")) == 1
        status, answer = await batch(client, key, 3)
        assert (status, answer["request_counts"]["accepted"]) == (202, 2)

"""``result_ttl_s`` of submissions: how long Redis keeps results, whoever stored them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis
from support.api_rig import running_api
from support.migration_rig import celery_worker, completed, submit, until

from crucible.errors import InputError
from crucible.evaluation.allowance import allowances
from crucible.evaluation.request import EvalRequest
from crucible.executor.served import ServedEnvironments
from crucible.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

DAY_S = 86_400


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """API and worker."""
    async with running_api(redis_url) as session, celery_worker(redis_url):
        yield session


def key_of(eval_id: str) -> str:
    """The key of a result."""
    return f"celery-task-meta-eval-{eval_id}"


async def test_a_result_is_kept_as_long_as_its_submission_asks(
    client: aiohttp.ClientSession, redis: Redis
) -> None:
    """From the moment it is there; its record goes with it, and those of others stay."""
    await submit(client, "print(1)", eval_id="short", result_ttl_s=100)
    await submit(client, "print(1)", eval_id="long", result_ttl_s=7 * DAY_S)
    await submit(client, "print(1)", eval_id="usual")
    await submit(client, "raise SystemExit(1)", eval_id="wrong", result_ttl_s=50)
    for eval_id in ("short", "long", "usual", "wrong"):
        await completed(client, eval_id)
    assert 50 < await redis.ttl(key_of("short")) <= 100
    assert DAY_S < await redis.ttl(key_of("long")) <= 7 * DAY_S
    assert 100 < await redis.ttl(key_of("usual")) <= DAY_S
    assert 0 < await redis.ttl(key_of("wrong")) <= 50

    async def record_follows() -> bool:
        return 0 < await redis.ttl("crucible:once:eval:short") <= 100

    await until(record_follows)


async def test_a_cancelled_one_too(redis_url: str, redis: Redis) -> None:
    """Its result is stored by the api, its lifetime set by the worker that meets its message."""
    async with running_api(redis_url) as client:
        await submit(client, "print(1)", eval_id="stopped", result_ttl_s=100)
        async with client.delete("/api/eval/stopped") as response:
            assert response.status == 200
        async with celery_worker(redis_url):

            async def shortened() -> bool:
                return 0 < await redis.ttl(key_of("stopped")) <= 100

            await until(shortened)


async def test_items_of_batches_and_retries_keep_it(
    client: aiohttp.ClientSession, redis: Redis
) -> None:
    """A retry asks for the same as what it repeats."""
    items = [{"code": "print(1)", "eval_id": "one", "result_ttl_s": 100}, {"code": "1"}]
    async with client.post("/api/eval/batch", json=items) as response:
        assert response.status == 202
    await completed(client, "one")
    async with client.post("/api/eval/one/retry") as response:
        again = (await response.json())["eval_id"]
    await completed(client, again)
    assert 0 < await redis.ttl(key_of(again)) <= 100


@pytest.mark.parametrize("wrong", [0, -1, 7 * DAY_S + 1, 10**30, 1.5, "60", True])
async def test_bounds_are_told_by_name(client: aiohttp.ClientSession, wrong: Any) -> None:
    """In the fast path and in a batch."""
    body = {"code": "print(1)", "result_ttl_s": wrong}
    async with client.post("/api/eval", json=body) as response:
        assert response.status == 422
        assert (await response.json())["errors"][0]["pointer"] == "#/result_ttl_s"
    async with client.post("/api/eval/batch", json=[body]) as response:
        (item,) = (await response.json())["items"]
    assert item["error"]["errors"][0]["pointer"].endswith("/result_ttl_s")


def test_a_tier_may_have_a_lower_bound() -> None:
    """And none a higher one than the installation."""
    tiers = '{"bulk": {"result_ttl_s": 60}, "premium": {"result_ttl_s": 1000000}}'
    found = allowances(load_settings({"CRUCIBLE_TIERS": tiers}), ServedEnvironments())
    asked = EvalRequest(code="x", result_ttl_s=61)
    with pytest.raises(InputError, match="between 1 and 60"):
        found["bulk"].admit(asked)
    assert found["standard"].admit(asked).result_ttl_s == 61
    with pytest.raises(InputError, match=f"and {7 * DAY_S}"):
        found["premium"].admit(EvalRequest(code="x", result_ttl_s=7 * DAY_S + 1))

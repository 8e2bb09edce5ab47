"""Webhooks of batches, of bulk cancels, of retries, and of tenants with keys."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from support.api_rig import running_api
from support.keyed import make_key
from support.migration_rig import celery_worker, completed, submit, until
from support.receiver import listening_receiver, verify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp
    from support.receiver import Received

PATH = "/api/v1/webhooks"
LOOPBACK = ("127.0.0.0/8",)


@asynccontextmanager
async def receiving(redis_url: str) -> AsyncIterator[tuple[aiohttp.ClientSession, Received]]:
    """API and receiver; no worker."""
    async with (
        listening_receiver() as received,
        running_api(redis_url, webhook_networks=LOOPBACK) as client,
    ):
        yield client, received


async def asked(
    client: aiohttp.ClientSession, method: str, path: str, status: int, **given: Any
) -> dict[str, Any]:
    """One answer of the API, of the expected status."""
    async with client.request(method, path, **given) as response:
        assert response.status == status, await response.text()
        found: dict[str, Any] = await response.json()
        return found


def ends_of(received: Received) -> set[tuple[str, str]]:
    """What was reported of which evaluations."""
    return {(body["data"]["eval_id"], body["type"]) for body in received.bodies()}


async def test_items_of_a_batch_name_receivers_of_their_own(redis_url: str) -> None:
    """And one with a bad URL is rejected alone."""
    async with receiving(redis_url) as (client, received), celery_worker(redis_url):
        items = [
            {"code": "print(1)", "eval_id": "mine", "webhook_url": received.url},
            {"code": "print(1)", "eval_id": "silent"},
            {"code": "print(1)", "webhook_url": "http://10.0.0.1/"},
        ]
        answer = await asked(client, "POST", "/api/eval/batch", 202, json=items)
        assert answer["items"][2]["error"]["errors"][0]["pointer"].endswith("webhook_url")
        await completed(client, "silent")
        await submit(client, "print(1)", eval_id="later", webhook_url=received.url)
        await received.until(2)
    assert ends_of(received) == {
        ("mine", "evaluation.completed"),
        ("later", "evaluation.completed"),
    }


async def test_a_bulk_cancel_notifies_of_each_that_waited(redis_url: str) -> None:
    """Registered receivers and those of submissions; once, though asked twice."""
    async with receiving(redis_url) as (client, received):
        await asked(client, "POST", PATH, 201, json={"url": received.url})
        await submit(client, "print(1)", eval_id="a")
        await submit(client, "print(1)", eval_id="b", webhook_url=received.url)
        for cancelled in (2, 0):
            answer = await asked(client, "DELETE", "/api/eval?status=queued", 200)
            assert answer["cancelled"] == cancelled
        async with celery_worker(redis_url):
            await received.until(3)
            await submit(client, "print(1)", eval_id="c")
            await received.until(4)
    assert ends_of(received) == {
        ("a", "evaluation.cancelled"),
        ("b", "evaluation.cancelled"),
        ("c", "evaluation.completed"),
    }
    assert len(set(received.ids())) == 4


async def test_a_retry_reports_to_the_receiver_of_the_first(redis_url: str) -> None:
    """Under its own id."""
    async with receiving(redis_url) as (client, received), celery_worker(redis_url):
        await submit(client, "print(1)", eval_id="first", webhook_url=received.url)
        await received.until(1)
        again = await asked(client, "POST", "/api/eval/first/retry", 202)
        await received.until(2)
    assert {eval_id for eval_id, _ in ends_of(received)} == {"first", again["eval_id"]}


async def test_keys_reach_webhooks_of_their_tenant_only(redis_url: str) -> None:
    """The same id of two tenants is reported to each, as each knows it."""
    acme = await make_key(redis_url, "acme", "submit", "read")
    other = await make_key(redis_url, "other", "submit", "read")
    reader = await make_key(redis_url, "acme", "read")
    async with receiving(redis_url) as (client, received), celery_worker(redis_url):
        body = {"url": received.url}
        await asked(client, "POST", PATH, 401, json=body)
        await asked(client, "POST", PATH, 403, json=body, headers=reader.headers)
        made = await asked(client, "POST", PATH, 201, json=body, headers=acme.headers)
        listed = await asked(client, "GET", PATH, 200, headers=other.headers)
        assert made["id"] not in [one["id"] for one in listed["webhooks"]]
        path = f"{PATH}/{made['id']}"
        await asked(client, "DELETE", path, 404, headers=other.headers)
        await asked(client, "POST", f"{path}/rotate", 404, headers=other.headers)
        await asked(client, "GET", f"{path}/deliveries", 404, headers=other.headers)
        for tenant, key in (("other", other), ("acme", acme)):
            asking = {"code": f"print({tenant!r})", "eval_id": "same"}
            await asked(client, "POST", "/api/eval", 202, json=asking, headers=key.headers)
        [(headers, raw)] = await received.until(1)
        event = verify(made["secret"], headers, raw)
        data = event["data"]
        assert (data["eval_id"], data["output"], data["href"]) == (
            "same",
            "acme\n",
            "/api/eval/same",
        )
        delivery = headers["webhook-id"]
        replay = f"{PATH}/deliveries/{delivery}/replay"
        await asked(client, "POST", replay, 404, headers=other.headers)
        await asked(client, "POST", replay, 403, headers=reader.headers)


async def test_attempts_are_counted_by_outcome(redis_url: str) -> None:
    """By whichever worker made them; every api process shows the same."""
    async with receiving(redis_url) as (client, received), celery_worker(redis_url):
        await submit(client, "print(1)", webhook_url=received.url)
        await received.until(1)

        async def counted() -> bool:
            async with client.get("/metrics") as response:
                return 'webhook_deliveries_total{outcome="delivered"} 1.0' in await response.text()

        await until(counted)

"""Webhooks from the submission to the receiver: API, worker, and a listener that verifies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError
from support.api_rig import running_api
from support.migration_rig import LocalExecutor, celery_worker, completed, submit, until
from support.receiver import listening_receiver, verify
from support.worker_rig import async_worker

from crucible.broker.results.meta import REVOKED, STARTED, encode_meta, revoked_result
from crucible.broker.wire.decode import decode
from crucible.errors import BrokerUnavailable
from crucible.redis_keys import REVOKED as REVOKED_IDS
from crucible.redis_keys import Keys
from crucible.webhooks.registration import DEFAULT, EVENT_TYPES, RegistrationStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp
    from redis.asyncio import Redis
    from support.receiver import Received

PATH = "/api/v1/webhooks"
LOOPBACK = ("127.0.0.0/8",)


@asynccontextmanager
async def running(
    redis_url: str, executor: LocalExecutor | None = None
) -> AsyncIterator[tuple[aiohttp.ClientSession, Received]]:
    """API, worker and receiver."""
    async with AsyncExitStack() as stack:
        received = await stack.enter_async_context(listening_receiver())
        client = await stack.enter_async_context(running_api(redis_url, webhook_networks=LOOPBACK))
        await stack.enter_async_context(celery_worker(redis_url, executor, concurrency=4))
        yield client, received


async def asked(
    client: aiohttp.ClientSession, method: str, path: str, body: Any = None, status: int = 200
) -> dict[str, Any]:
    """One answer of the API, of the expected status."""
    async with client.request(method, path, json=body) as response:
        assert response.status == status, await response.text()
        return {} if status == 204 else msgspec.json.decode(await response.read())


async def registered(client: aiohttp.ClientSession, url: str, **fields: Any) -> dict[str, Any]:
    """A new webhook."""
    return await asked(client, "POST", PATH, {"url": url, **fields}, 201)


async def latest(
    client: aiohttp.ClientSession, webhook: str, status: str, *, number: int = 1
) -> dict[str, Any]:
    """The latest delivery, once there are ``number`` and its last attempt came to ``status``."""

    async def found() -> dict[str, Any] | None:
        answer = await asked(client, "GET", f"{PATH}/{webhook}/deliveries")
        deliveries = answer["deliveries"]
        if len(deliveries) < number or deliveries[0]["status"] != status:
            return None
        one: dict[str, Any] = deliveries[0]
        return one

    one: dict[str, Any] = await until(found)
    return one


async def test_an_end_is_delivered_signed_and_logged(redis_url: str) -> None:
    """With what its receiver needs, and its output up to a bound."""
    async with running(redis_url) as (client, received):
        made = await registered(client, received.url)
        code = "print('é' * 9000)"
        await submit(client, code, eval_id="e1", metadata={"order": 7})
        [(headers, body)] = await received.until(1)
        event = verify(made["secret"], headers, body)
        one = await latest(client, made["id"], "delivered")
    data = event["data"]
    assert (event["type"], set(event)) == ("evaluation.completed", {"type", "timestamp", "data"})
    assert (data["eval_id"], data["verdict"], data["metadata"]) == ("e1", "ok", {"order": 7})
    assert (data["output"], data["output_cut"], data["href"]) == ("é" * 4096, True, "/api/eval/e1")
    assert (one["id"], one["eval_id"], one["type"]) == (headers["webhook-id"], "e1", event["type"])
    assert [attempt["status_code"] for attempt in one["attempts"]] == [204]


async def test_only_the_events_asked_for_are_delivered(redis_url: str) -> None:
    """Cancelled, say, and nothing else; of a queued evaluation no worker has seen the end."""
    async with listening_receiver() as received:
        async with running_api(redis_url, webhook_networks=LOOPBACK) as client:
            made = await registered(client, received.url, events=["evaluation.cancelled"])
            assert made["events"] == ["evaluation.cancelled"]
            await submit(client, "print(1)", eval_id="stopped")
            await submit(client, "print(1)", eval_id="runs")
            stopped = await asked(client, "DELETE", "/api/eval/stopped")
            assert stopped["status"] == "cancelled"
            async with celery_worker(redis_url):
                await completed(client, "runs")
                await received.until(1)
                await latest(client, made["id"], "delivered")
        [event] = received.bodies()
        assert (event["type"], event["data"]["eval_id"]) == ("evaluation.cancelled", "stopped")
        assert event["data"]["verdict"] == "cancelled"


async def test_the_end_of_one_that_a_stock_worker_ran_is_delivered(
    redis_url: str, redis: Redis
) -> None:
    """Such a worker kills the process and stores REVOKED; who asked for it reports the end."""
    key = Keys().result("eval-runs")
    async with running_api(redis_url, webhook_networks=LOOPBACK) as client:
        await registered(client, "http://127.0.0.1:9/hook")
        await submit(client, "print(1)", eval_id="runs")
        await redis.set(key, encode_meta("eval-runs", STARTED, {}))
        cancelling = asyncio.create_task(asked(client, "DELETE", "/api/eval/runs"))
        await until(lambda: redis.exists(REVOKED_IDS), timeout_s=60)
        meta = encode_meta("eval-runs", REVOKED, revoked_result("terminated"))
        await redis.set(key, meta)
        await redis.publish(key, meta)
        assert (await cancelling)["status"] == "cancelled"
        assert await redis.llen("webhooks") == 1


async def test_an_end_whose_api_was_killed_is_delivered_when_it_is_asked_again(
    redis_url: str, redis: Redis
) -> None:
    """It had stored the end and not sent the delivery yet, so its client had no answer."""
    async with running_api(redis_url, webhook_networks=LOOPBACK) as client:
        await registered(client, "http://127.0.0.1:9/hook")
        await submit(client, "print(1)", eval_id="stopped")
        meta = encode_meta("eval-stopped", REVOKED, revoked_result("revoked"))
        await redis.set(Keys().result("eval-stopped"), meta)
        assert (await asked(client, "DELETE", "/api/eval/stopped"))["status"] == "cancelled"
        assert await redis.llen("webhooks") == 1


async def test_a_submission_names_its_own_receiver(redis_url: str) -> None:
    """Signed with the tenant's default secret, which rotating it shows."""
    async with running(redis_url) as (client, received):
        default = await asked(client, "POST", f"{PATH}/{DEFAULT}/rotate")
        await submit(client, "raise SystemExit(3)", eval_id="own", webhook_url=received.url + "?a")
        [(headers, body)] = await received.until(1)
        event = verify(default["secret"], headers, body)
        one = await latest(client, DEFAULT, "delivered")
    assert event["data"]["exit_code"] == 3
    assert one["attempts"][0]["url"] == received.url + "?a"


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/", "http://169.254.169.254/", "nonsense", "ftp://example.org/", ""]
)
async def test_a_bad_webhook_url_is_refused_by_name(redis_url: str, url: str) -> None:
    """In a submission and in a registration; nothing is queued."""
    async with running_api(redis_url, webhook_networks=LOOPBACK) as client:
        body = {"code": "print(1)", "webhook_url": url}
        problem = await asked(client, "POST", "/api/eval", body, 422)
        assert problem["errors"][0]["pointer"] == "#/webhook_url"
        problem = await asked(client, "POST", PATH, {"url": url}, 422)
        assert problem["errors"][0]["pointer"] == "#/url"
        unknown = {"url": "https://example.org", "events": ["evaluation.begun"]}
        problem = await asked(client, "POST", PATH, unknown, 422)
        assert problem["errors"][0]["pointer"] == "#/events"


async def test_both_secrets_verify_during_a_rotation(redis_url: str) -> None:
    """And only the new one is shown, once."""
    async with running(redis_url) as (client, received):
        made = await registered(client, received.url)
        rotated = await asked(client, "POST", f"{PATH}/{made['id']}/rotate")
        assert rotated["secret"] != made["secret"]
        await submit(client, "print(1)")
        [(headers, body)] = await received.until(1)
        for secret in (made["secret"], rotated["secret"]):
            verify(secret, headers, body)
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_" + "A" * 32).verify(body.decode(), headers)
        listed = await asked(client, "GET", PATH)
        assert "secret" not in listed["webhooks"][0]


async def test_replays_carry_the_id_of_the_first_delivery(redis_url: str) -> None:
    """In any order, after both were accepted, so that a receiver can tell."""
    async with running(redis_url) as (client, received):
        made = await registered(client, received.url)
        for number, eval_id in enumerate(("a", "b"), start=1):
            await submit(client, "print(1)", eval_id=eval_id)
            await received.until(number)
            # What a receiver has seen is noted a moment later.
            await latest(client, made["id"], "delivered", number=number)
        first, second = received.ids()
        for delivery in (second, first):
            await asked(client, "POST", f"{PATH}/deliveries/{delivery}/replay", status=202)
            await received.until(len(received.requests) + 1)
        assert received.ids() == [first, second, second, first]
        for headers, body in received.requests:
            verify(made["secret"], headers, body)
        await asked(client, "POST", f"{PATH}/deliveries/msg_x/replay", status=404)


async def test_gone_disables_a_webhook_until_it_is_rotated(redis_url: str) -> None:
    """410 is final: no further attempt, and no further delivery."""
    async with running(redis_url) as (client, received):
        made = await registered(client, received.url)

        async def gone(_: web.Request) -> web.Response:
            return web.Response(status=410)

        received.answer = gone
        await submit(client, "print(1)", eval_id="a")
        one = await latest(client, made["id"], "failed")
        assert one["attempts"][0]["status_code"] == 410

        async def disabled() -> bool:
            listed = await asked(client, "GET", PATH)
            return not listed["webhooks"][0]["enabled"]

        await until(disabled)
        path = f"{PATH}/deliveries/{one['id']}/replay"
        await asked(client, "POST", path, status=409)
        await asked(client, "POST", f"{PATH}/{made['id']}/rotate")
        received.answer = None
        await asked(client, "POST", path, status=202)
        await received.until(2)


async def test_a_failed_attempt_is_made_again_with_the_same_id_and_body(redis_url: str) -> None:
    """After the delay that the receiver asked for, or that of the schedule if that is longer."""
    async with running(redis_url) as (client, received):
        made = await registered(client, received.url)

        async def busy(_: web.Request) -> web.Response:
            received.answer = None
            return web.Response(status=503, headers={"Retry-After": "1"})

        received.answer = busy
        await submit(client, "import os; print(os.urandom(4))")
        (headers, body), (headers_again, body_again) = await received.until(2)
        one = await latest(client, made["id"], "delivered")
    assert (headers["webhook-id"], body) == (headers_again["webhook-id"], body_again)
    outcomes = [(attempt["number"], attempt["outcome"]) for attempt in one["attempts"]]
    assert outcomes == [(2, "delivered"), (1, "retrying")]
    waited_s = int(headers_again["webhook-timestamp"]) - int(headers["webhook-timestamp"])
    assert waited_s >= 4


async def test_an_end_and_its_delivery_are_stored_in_one_step(redis_url: str, redis: Redis) -> None:
    """A worker that dies right after an end has lost nothing: the message is there with the result.

    The queue of deliveries is not served here.
    """
    async with running_api(redis_url, webhook_networks=LOOPBACK) as client:
        made = await registered(client, "https://receiver.example/")
        arguments = ("--queues", "evaluation")
        async with async_worker(redis_url, *arguments, CRUCIBLE_EVENT_BUS_URL="off") as worker:
            pubsub = redis.pubsub()
            await pubsub.subscribe("celery-task-meta-eval-once")
            await submit(client, "print(1)", eval_id="once")
            while True:
                news = await pubsub.get_message(ignore_subscribe_messages=True, timeout=60)
                if news is not None and b"SUCCESS" in news["data"]:
                    break
            os.kill(worker.pid, signal.SIGKILL)
            raw: Any
            [raw] = await redis.lrange("webhooks", 0, -1)
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py left it unannotated
    message = decode(raw)
    delivery = message.kwargs["delivery"]
    assert (message.task, delivery["webhook"]) == ("tasks.deliver_webhook", made["id"])
    assert delivery["end"]["eval_id"] == "once"


async def test_a_worker_killed_while_it_delivers_loses_nothing(redis_url: str) -> None:
    """Another one makes the delivery, under the same id."""
    environment = {"CRUCIBLE_EVENT_BUS_URL": "off", "CRUCIBLE_WEBHOOK_NETWORKS": "127.0.0.0/8"}
    async with (
        listening_receiver() as received,
        running_api(redis_url, webhook_networks=LOOPBACK) as client,
        async_worker(redis_url, **environment) as first,
    ):

        async def kill(_: web.Request) -> web.Response:
            received.answer = None
            os.kill(first.pid, signal.SIGKILL)
            return web.Response(status=204)

        received.answer = kill
        made = await registered(client, received.url)
        await submit(client, "print(1)", eval_id="e1")
        await received.until(1)
        async with async_worker(redis_url, **environment):
            await until(lambda: len(received.requests) >= 2, timeout_s=60)
            one = await latest(client, made["id"], "delivered")
    assert received.ids() == [one["id"]] * 2


async def test_a_webhook_that_fails_for_days_is_disabled(redis_url: str, redis: Redis) -> None:
    """One success in between starts the days anew."""
    store = RegistrationStore(redis, Keys())
    async with running(redis_url) as (client, received):
        made = await registered(client, received.url)

        async def broken(_: web.Request) -> web.Response:
            return web.Response(status=500)

        received.answer = broken
        long_ago_ms = (time.time_ns() // 1_000_000) - 6 * 86_400_000
        await redis.hset(Keys().webhooks_failing, f"local:{made['id']}", long_ago_ms)
        await submit(client, "print(1)")

        async def disabled() -> str | None:
            return (await store.get("local", made["id"])).disabled

        assert "5 days" in await until(disabled)
    await store.rotate("local", made["id"])
    assert not await redis.hexists(Keys().webhooks_failing, f"local:{made['id']}")


async def test_tenants_have_webhooks_of_their_own(redis: Redis) -> None:
    """Neither seen nor deleted by another; their number is bounded."""
    store = RegistrationStore(redis, Keys())
    mine = await store.create("acme", "https://a.example/", EVENT_TYPES)
    other = await store.create("other", "https://b.example/", EVENT_TYPES)
    assert [one.id for one in await store.of_tenant("acme")] == [mine.id]
    assert [one.id for one in await store.of_tenant("other")] == [other.id]


async def test_a_rotation_that_is_refused_changes_nothing(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would have been shown the new secret."""
    store = RegistrationStore(redis, Keys())
    made = await store.create("t", "https://1.1.1.1/", ())

    async def away(*_: object) -> None:
        raise BrokerUnavailable("the queue server did not answer in time")

    monkeypatch.setattr(store, "succeeded", away)
    with pytest.raises(BrokerUnavailable):
        await store.rotate("t", made.id)
    assert await store.get("t", made.id) == made

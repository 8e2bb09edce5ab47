"""Webhooks of evaluations that went through the legacy queue."""

from __future__ import annotations

from typing import Any

from support.api_rig import running_api
from support.migration_rig import (
    LegacyInstallation,
    LocalExecutor,
    both_sides,
    celery_worker,
    completed,
    submit,
    until,
)
from support.receiver import listening_receiver, verify

LOOPBACK = ("127.0.0.0/8",)
LEGACY: dict[str, Any] = {"celery_percentage": 0.0, "webhook_networks": LOOPBACK}


async def test_an_end_in_the_legacy_queue_is_delivered(redis_url: str) -> None:
    """To registered webhooks and to that of the submission, with the result that is kept."""
    async with listening_receiver() as received, both_sides(redis_url, **LEGACY) as (client, _):
        url = received.url
        async with client.post("/api/v1/webhooks", json={"url": url}) as response:
            secret = (await response.json())["secret"]
        accepted = await submit(client, "print(6*7)", eval_id="e1", webhook_url=f"{url}/own")
        assert accepted["queue_system"] == "legacy"
        await received.until(2)
        await completed(client, "e1")
        sent = sorted(received.requests, key=lambda one: one[0]["x-path"])
    event = verify(secret, *sent[0])
    assert event["type"] == "evaluation.completed"
    assert (event["data"]["output"], event["data"]["queue_system"]) == ("42\n", "legacy")
    assert [headers["x-path"] for headers, _ in sent] == ["/hook", "/hook/own"]


async def test_an_end_that_its_api_did_not_see_is_delivered_once_somebody_asks(
    redis_url: str,
) -> None:
    """The api that took it was gone before it ended."""
    async with listening_receiver() as received, celery_worker(redis_url):
        async with LegacyInstallation(LocalExecutor(), 0) as legacy:
            flags = {**LEGACY, "queue_service_url": legacy.url}
            async with running_api(redis_url, **flags) as first:
                await submit(first, "print(1)", eval_id="e1", webhook_url=received.url)
            legacy.add_workers(1)

            async def ran() -> Any:
                return legacy.queue.stats().completed_total

            await until(ran)
            async with running_api(redis_url, **flags) as second:
                assert (await completed(second, "e1"))["queue_system"] == "legacy"
                await completed(second, "e1")
                [(_, body)] = await received.until(1)
    assert b'"evaluation.completed"' in body


async def test_an_evaluation_and_its_copy_are_delivered_once(redis_url: str) -> None:
    """Both are the same evaluation to the receiver."""
    flags: dict[str, Any] = {"dual_write": True, "webhook_networks": LOOPBACK}
    async with listening_receiver() as received, both_sides(redis_url, **flags) as (client, _):
        await submit(client, "print(1)", eval_id="e1", webhook_url=received.url)

        async def compared() -> Any:
            async with client.get("/api/v1/migration") as response:
                return (await response.json())["compared"]["equal"]

        await until(compared)
        await received.until(1)
        # In order, and one worker: what came twice has been looked at before this one.
        await submit(client, "print(2)", eval_id="e2", webhook_url=received.url)
        await received.until(2)
        found = [one["data"]["eval_id"] for one in received.bodies()]
    assert found == ["e1", "e2"]

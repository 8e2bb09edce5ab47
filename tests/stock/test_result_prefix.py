"""``crucible worker`` and the api where the clients have a prefix for their results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis
from stock_rig.client import StockClient
from stock_rig.environments import NEWEST, OLDEST, PROJECT, TESTS
from support.api_rig import running_api
from support.migration_rig import completed
from support.worker_rig import async_worker

from crucible.embedded.server import EmbeddedServer
from crucible.redis_keys import Keys
from crucible.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.stock

TASKS = ("--tasks", "support.fleet_tasks")
#: What an ACL user of two prefixes may use; a pattern that is subscribed to needs its own rule.
RIGHTS = (
    *("resetkeys", "~q:*", "~app1:*", "+@all"),
    *("resetchannels", "&q:*", "&app1:*", "&q:/0.celeryev/worker.*"),
)


def result_prefix(prefix: str) -> dict[str, Any]:
    """The configuration of a client with a prefix for its results."""
    return {"result_backend_transport_options": {"global_keyprefix": prefix}}


@pytest.mark.parametrize(
    ("version", "of_client", "setting", "key"),
    [
        (NEWEST, "app1:", "app1:", "app1:celery-task-meta-"),
        (NEWEST, "app1", "app1", "app1_celery-task-meta-"),
        (OLDEST, "app1:", "app1:_", "app1:_celery-task-meta-"),
    ],
)
async def test_stock_clients_get_results_under_their_prefix(
    version: str, of_client: str, setting: str, key: str, redis_url: str, redis: Redis
) -> None:
    """Tasks and chords; extended results that stay for ever, where the settings say so."""
    environment = {
        "PYTHONPATH": str(TESTS),
        "CRUCIBLE_RESULT_KEYPREFIX": setting,
        "CRUCIBLE_RESULT_EXTENDED": "true",
        "CRUCIBLE_RESULT_TTL_S": "0",
        "CRUCIBLE_EVENTS": "true",
    }
    chord = {
        "chord": {
            "header": [{"$signature": {"task": "rig.add", "args": [n, 1]}} for n in (1, 2)],
            "body": {"$signature": {"task": "rig.add", "args": [[7]]}},
        }
    }
    async with (
        StockClient(version, redis_url, config=result_prefix(of_client)) as client,
        async_worker(redis_url, *TASKS, **environment) as worker,
    ):
        await worker.wait_for_log("is ready", 60)
        task_id = await client.send_task("rig.add", [2, 3])
        assert await client.get(task_id) == 5
        sent = await client.send({"canvas": chord})
        assert await client.get(sent["id"]) == [2, 3, 7]
    stored = await redis.get(f"{key}{task_id}")
    assert stored is not None
    meta = json.loads(stored)
    assert (meta["name"], meta["args"], meta["queue"]) == ("rig.add", [2, 3], "celery")
    assert await redis.ttl(f"{key}{task_id}") == -1
    assert await redis.keys("celery-task*") == []


async def test_rights_for_the_prefix_alone_are_enough(tmp_path: Path) -> None:
    """An ACL user that may use nothing but its prefixes: results, readiness and cancellation."""
    async with EmbeddedServer(tmp_path, durable=False) as server:
        admin = Redis.from_url(server.url)
        user = ("ACL", "SETUSER", "app", "on", ">secret", *RIGHTS)
        await admin.execute_command(*user)  # type: ignore[no-untyped-call]  # redis-py's
        url = server.url.replace("redis://", "redis://app:secret@")
        config = {
            "broker_transport_options": {"global_keyprefix": "q:"},
            **result_prefix("app1:"),
        }
        flags = ("--global-keyprefix", "q:", "--result-keyprefix", "app1:")
        async with (
            StockClient(NEWEST, url, config=config) as client,
            async_worker(url, *TASKS, *flags, PYTHONPATH=str(TESTS)) as worker,
            running_api(url, global_keyprefix="q:", result_keyprefix="app1:") as api,
        ):
            await worker.wait_for_log("is ready", 60)
            assert await client.get(await client.send_task("rig.add", [2, 3])) == 5
            async with api.post("/api/eval", json={"code": "print(1)", "eval_id": "one"}) as sent:
                assert sent.status == 202
            async with api.delete("/api/eval/one") as response:
                assert (await response.json())["status"] == "cancelled"
            assert (await completed(api, "one"))["status"] == "cancelled"
            async with api.get("/ready") as response:
                assert (await response.json())["dependencies"]["queue"]["ok"]
        denied: Any = await admin.acl_log()
        await admin.aclose()
    assert [(entry["object"], entry["context"]) for entry in denied] == []


@pytest.mark.parametrize("prefix", ["", "app1", "app1:"])
async def test_the_shipped_application_has_the_same_keys(prefix: str, redis_url: str) -> None:
    """``crucible.celery_app`` takes prefix, lifetime and extended results from the settings."""
    environment = {
        "CELERY_BROKER_URL": redis_url,
        "CRUCIBLE_RESULT_KEYPREFIX": prefix,
        "CRUCIBLE_RESULT_TTL_S": "0",
        "CRUCIBLE_RESULT_EXTENDED": "true",
    }
    app = StockClient(PROJECT, redis_url, app="crucible.celery_app", environment=environment)
    async with app as client:
        found = await client.run(
            "answer = [app.backend.get_key_for_task('x').decode(), app.backend.expires,"
            " app.conf.result_extended]"
        )
    keys = Keys("", Settings(result_keyprefix=prefix).result_prefix)
    assert found == [keys.result("x"), 0, True]

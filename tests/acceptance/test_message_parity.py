from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from stock_rig.golden import GOLDEN_VERSIONS, load
from stock_rig.mask import mask_message
from support.api_rig import queued, running_api

from crucible.celery_app import create_app
from crucible.settings import load_settings

REQUESTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"code": "print(6*7)"}, {}),
    ({"code": "print('grün')  # it's\n" * 200, "args": ["a", "b'c"]}, {"args": ["a", "b'c"]}),
    (
        {"code": "x" * 5000, "stdin": "ü\n", "env": {"A": "B"}, "limits": {"pids": 9}},
        {"stdin": "ü\n", "env": {"A": "B"}, "limits": {"pids": 9}},
    ),
]


@pytest.mark.parametrize(("body", "kwargs"), REQUESTS)
@pytest.mark.parametrize(("priority", "queue"), [(9, "high_priority"), (5, "evaluation")])
async def test_a_submission_is_what_stock_apply_async_writes(
    redis_url: str,
    redis: Redis,
    body: dict[str, Any],
    kwargs: dict[str, Any],
    priority: int,
    queue: str,
) -> None:
    """The HTTP path and the stock application write the same bytes but for ids, pid and host."""
    async with running_api(redis_url) as client:
        request = {**body, "eval_id": "e1", "priority": priority}
        async with client.post("/api/eval", json=request) as response:
            assert response.status == 202
    [ours] = await queued(redis)
    await redis.flushdb()
    app = create_app(load_settings({"CELERY_BROKER_URL": redis_url}))
    with app.connection_for_write() as connection:
        app.tasks["tasks.evaluate_code"].apply_async(
            args=["e1", body["code"], "python"],
            kwargs=kwargs,
            task_id="eval-e1",
            queue=queue,
            priority=9 - priority,
            connection=connection,
        )
    app.close()
    [theirs] = await queued(redis)
    assert mask_message(ours) == mask_message(theirs)


@pytest.mark.parametrize("version", GOLDEN_VERSIONS)
async def test_a_submission_is_what_every_stock_version_writes(
    redis_url: str, redis: Redis, version: str
) -> None:
    """The same against the messages captured from the oldest and the newest stock producer."""
    async with running_api(redis_url) as client:
        body = {"code": "print(6*7)\n", "eval_id": "fixed"}
        async with client.post("/api/eval", json=body) as response:
            assert response.status == 202
    [ours] = await queued(redis)
    entries = {
        entry["call"]: entry
        for entry in load(version, "publishes")["entries"]
        if entry["via"] == "apply_async"
    }
    [theirs] = entries["evaluate_code_plain"]["pushed"]
    assert mask_message(ours) == mask_message(theirs["message"])

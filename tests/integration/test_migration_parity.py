"""The feature parity list: each sentence holds on the legacy side and on the Celery side alike."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from support.api_rig import running_api
from support.migration_rig import (
    LegacyInstallation,
    LocalExecutor,
    both_sides,
    celery_worker,
    completed,
    look,
    submit,
    until,
)

from crucible.migration import share_of

#: The switches that send everything to one side.
SIDES = [
    pytest.param({"celery_percentage": 0.0}, id="legacy"),
    pytest.param({"celery_percentage": 1.0}, id="celery"),
]


@pytest.mark.parametrize("flags", SIDES)
async def test_submission_is_acknowledged_with_the_same_words(
    redis_url: str, flags: dict[str, Any]
) -> None:
    """Submission: 202, a Location, and the same fields; the same id again is the first one."""
    async with both_sides(redis_url, **flags) as (client, _):
        body = {"code": "print(1)", "eval_id": "one", "metadata": {"course": 7}}
        async with client.post("/api/eval", json=body) as response:
            answer = await response.json()
            assert (response.status, response.headers["Location"]) == (202, "/api/eval/one")
        assert set(answer) == {"eval_id", "task_id", "status", "queue", "queue_system", "href"}
        assert answer["task_id"] == "eval-one"
        ended = await completed(client, "one")
        assert ended["metadata"] == {"course": 7}
        async with client.post("/api/eval", json=body) as response:
            assert (response.status, await response.json()) == (200, ended)
        async with client.post("/api/eval", json={**body, "code": "print(2)"}) as response:
            assert (response.status, (await response.json())["field"]) == (409, "eval_id")


@pytest.mark.parametrize("flags", SIDES)
async def test_status_goes_from_queued_over_running_to_completed(
    redis_url: str, flags: dict[str, Any]
) -> None:
    """Status: a client sees an evaluation wait, run and end on either side."""
    code = "import sys; sys.stdin.read(1); import time; time.sleep(1)"
    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        async with running_api(redis_url, queue_service_url=legacy.url, **flags) as client:
            eval_id = (await submit(client, code))["eval_id"]
            assert (await look(client, eval_id))["status"] == "queued"
            legacy.add_workers(1)
            async with celery_worker(redis_url):

                async def running() -> bool:
                    return bool((await look(client, eval_id))["status"] == "running")

                await until(running)
                assert (await completed(client, eval_id))["status"] == "completed"


@pytest.mark.parametrize("flags", SIDES)
async def test_results_are_the_same_field_by_field(redis_url: str, flags: dict[str, Any]) -> None:
    """Result retrieval: bytes, exit code, verdict, usage and times, by waiting or by asking."""
    code = (
        "import sys; sys.stdout.buffer.write(b'\\xff'); sys.stderr.write(sys.argv[1]); sys.exit(4)"
    )
    async with both_sides(redis_url, **flags) as (client, _):
        async with client.post(
            "/api/eval", params={"wait": "20"}, json={"code": code, "args": ["é"]}
        ) as response:
            waited = await response.json()
        assert response.status == 200
        assert waited == await look(client, waited["eval_id"])
    assert (waited["output"], waited["output_encoding"]) == ("/w==", "base64")
    assert (waited["error"], waited["error_encoding"]) == ("é", "utf-8")
    assert (waited["exit_code"], waited["verdict"], waited["signal"]) == (4, "nonzero_exit", None)
    assert waited["usage"]["wall_time_ms"] > 0
    assert waited["timing_ms"]["total"] >= waited["timing_ms"]["run"]
    assert waited["worker"]
    assert waited["created_at"] <= waited["started_at"] <= waited["finished_at"]


@pytest.mark.parametrize("flags", SIDES)
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"code": ""}, "code"),
        ({"code": "x", "language": "cobol"}, "language"),
        ({"code": "x", "limits": {"memory_mb": -1}}, "limits.memory_mb"),
    ],
)
async def test_errors_name_the_same_field(
    redis_url: str, flags: dict[str, Any], body: dict[str, Any], field: str
) -> None:
    """Error handling: bad input is a 422 that names the field; nothing reaches a queue."""
    async with both_sides(redis_url, **flags) as (client, legacy):
        async with client.post("/api/eval", json=body) as response:
            assert (response.status, (await response.json())["field"]) == (422, field)
        assert legacy.queue.stats().submitted_total == 0


async def test_the_one_id_the_legacy_queue_cannot_take_is_refused_by_name(redis_url: str) -> None:
    """Error handling: `next` is a path of the legacy queue; 422 names eval_id, no record stays."""
    async with both_sides(redis_url, celery_percentage=0.0) as (client, _):
        async with client.post("/api/eval", json={"code": "1", "eval_id": "next"}) as response:
            assert (response.status, (await response.json())["field"]) == (422, "eval_id")
        async with client.get("/api/eval/next") as response:
            assert response.status == 404


async def test_platform_faults_are_retried_by_celery_and_told_by_legacy(redis_url: str) -> None:
    """Retry: Celery tries again and says how often; legacy tries once, as it always did."""
    executor = LocalExecutor()
    executor.away = True
    async with both_sides(
        redis_url,
        legacy_executor=executor,
        celery_executor=executor,
        celery_percentage=0.5,
    ) as (client, _):
        ids = [f"r{n}" for n in range(40)]
        to_celery = next(i for i in ids if share_of(i) < 0.5)
        to_legacy = next(i for i in ids if share_of(i) >= 0.5)
        await submit(client, "print(1)", eval_id=to_celery)
        await submit(client, "print(1)", eval_id=to_legacy)
        failed = await completed(client, to_legacy)
        assert (failed["status"], failed["retry_count"]) == ("failed", 0)

        for tries in (1, 2):

            async def retrying(tries: int = tries) -> bool:
                found = await look(client, to_celery)
                return (found["status"], found["retry_count"]) == ("retrying", tries)

            await until(retrying)
        assert "the executor is down" in (await look(client, to_celery))["message"]
        executor.away = False
        ended = await completed(client, to_celery)
    assert (ended["status"], ended["verdict"]) == ("completed", "ok")
    assert ended["retry_count"] >= 2


async def test_a_fault_that_no_retry_mends_says_how_often_it_was_tried(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine attempts are eight retries, also in the end and while one of them runs."""
    monkeypatch.setattr("crucible.evaluation.retry_policy.FIRST_S", 0.02)
    monkeypatch.setattr("crucible.evaluation.retry_policy.FACTOR", 1.0)
    executor = LocalExecutor()
    executor.away = True
    async with running_api(redis_url) as client, celery_worker(redis_url, executor):
        eval_id = (await submit(client, "print(1)"))["eval_id"]
        ended = await completed(client, eval_id)
        assert (ended["status"], ended["verdict"]) == ("failed", "internal_error")
        assert (ended["retry_count"], ended["message"]) == (
            8,
            "ExecutorUnavailable: the executor is down",
        )


async def test_a_further_try_that_runs_says_that_it_is_one(redis_url: str) -> None:
    """Not only once it has ended."""
    executor = LocalExecutor()
    executor.away = True
    async with running_api(redis_url) as client, celery_worker(redis_url, executor):
        eval_id = (await submit(client, "import time; time.sleep(30)"))["eval_id"]

        async def in_status(status: str) -> dict[str, Any] | None:
            found = await look(client, eval_id)
            return found if found["status"] == status else None

        await until(lambda: in_status("retrying"))
        executor.away = False
        running = await until(lambda: in_status("running"))
        while not running["retry_count"]:  # STARTED comes first, as for every task
            running = await until(lambda: in_status("running"))
        assert running["retry_count"] >= 1
        assert running["worker"]
        async with client.delete(f"/api/eval/{eval_id}") as response:
            assert response.status in (200, 202)


@pytest.mark.parametrize("flags", SIDES)
async def test_what_waits_can_be_cancelled(redis_url: str, flags: dict[str, Any]) -> None:
    """Cancellation: a queued evaluation never runs, and says cancelled for good."""
    executor = LocalExecutor()
    async with LegacyInstallation(executor, 0) as legacy:
        async with running_api(redis_url, queue_service_url=legacy.url, **flags) as client:
            eval_id = (await submit(client, "print(1)"))["eval_id"]
            async with client.delete(f"/api/eval/{eval_id}") as response:
                cancelled = await response.json()
                assert (response.status, cancelled["status"]) == (200, "cancelled")
            legacy.add_workers(1)
            async with celery_worker(redis_url, executor):
                other = (await submit(client, "print(2)"))["eval_id"]
                await completed(client, other)
            assert (await look(client, eval_id))["verdict"] == "cancelled"
            assert executor.runs == 1


async def test_priorities_order_celery_and_are_accepted_by_legacy(
    redis_url: str, redis: Redis
) -> None:
    """Priorities: urgent first on Celery; the legacy queue stays first in, first out."""
    order: dict[str, list[str]] = {"celery": [], "legacy": []}
    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        for side, percentage in (("celery", 1.0), ("legacy", 0.0)):
            async with running_api(
                redis_url, queue_service_url=legacy.url, celery_percentage=percentage
            ) as client:
                for priority in (0, 5, 9):
                    await submit(
                        client, "import time; time.sleep(0.05)", priority=priority,
                        eval_id=f"{side}-{priority}",
                    )  # fmt: skip
        legacy.add_workers(1)
        async with (
            celery_worker(redis_url, concurrency=1),
            running_api(redis_url, queue_service_url=legacy.url) as client,
        ):
            for side, found in order.items():
                ends = [await completed(client, f"{side}-{priority}") for priority in (0, 5, 9)]
                ends.sort(key=lambda one: one["started_at"])
                found += [one["eval_id"] for one in ends]
    assert order["celery"] == ["celery-9", "celery-5", "celery-0"]
    assert order["legacy"] == ["legacy-0", "legacy-5", "legacy-9"]


async def test_dead_letters_are_celerys_and_the_api_shows_them(
    redis_url: str, redis: Redis
) -> None:
    """Dead letters: what cannot be run is kept and listed in every mode of the migration."""
    async with both_sides(redis_url, dual_write=True) as (client, _):
        await redis.lpush("evaluation", b"garbage")

        async def buried() -> bool:
            async with client.get("/api/v1/dlq") as response:
                return len((await response.json())["dead_letters"]) == 1

        await until(buried)
        assert (await completed(client, (await submit(client, "print(1)"))["eval_id"]))["output"]

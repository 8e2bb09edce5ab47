"""Each mode of a migration, over HTTP, with both worlds running."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from support.api_rig import running_api
from support.migration_rig import (
    LegacyInstallation,
    LocalExecutor,
    both_sides,
    completed,
    look,
    status,
    submit,
    switch,
    until,
)


@pytest.mark.parametrize(
    ("flags", "side"),
    [
        ({"celery_enabled": False}, "legacy"),
        ({"celery_percentage": 0.0}, "legacy"),
        ({"force_legacy_queue": True}, "legacy"),
        ({"dual_write": True}, "legacy"),
        ({}, "celery"),
    ],
)
async def test_an_evaluation_goes_the_way_of_the_mode(
    redis_url: str, flags: dict[str, Any], side: str
) -> None:
    """The 202 and the result name the side of the mode, and the result is right on either."""
    async with both_sides(redis_url, **flags) as (client, _):
        accepted = await submit(client, "import sys; print(6*7); sys.exit(3)")
        assert (accepted["queue_system"], accepted["status"]) == (side, "queued")
        ended = await completed(client, accepted["eval_id"])
    assert (ended["queue_system"], ended["output"], ended["exit_code"]) == (side, "42\n", 3)
    assert (ended["status"], ended["verdict"]) == ("completed", "nonzero_exit")
    assert ended["retry_count"] == 0
    copied = side == "celery" or "dual_write" in flags
    assert ended["celery_task_id"] == (f"eval-{ended['eval_id']}" if copied else None)


async def test_a_split_follows_the_id_and_stays(redis_url: str) -> None:
    """At 50 % ids go both ways, and the same id again always finds its first evaluation."""
    async with both_sides(redis_url, celery_percentage=0.5) as (client, _):
        first = [await submit(client, "print(1)", eval_id=f"split-{n}") for n in range(30)]
        again = [await submit(client, "print(1)", eval_id=f"split-{n}") for n in range(30)]
        ended = [await completed(client, f"split-{n}") for n in range(30)]
    sides = [one["queue_system"] for one in first]
    assert [one["queue_system"] for one in again] == sides
    assert [one["queue_system"] for one in ended] == sides
    assert 5 < Counter(sides)["celery"] < 25


async def test_an_id_keeps_its_side_through_every_switch_and_another_process(
    redis_url: str,
) -> None:
    """Sticky: what legacy took stays there when all goes to Celery, in other processes too."""
    async with both_sides(redis_url, celery_percentage=0.0) as (client, legacy):
        await submit(client, "print('a')", eval_id="old")
        await completed(client, "old")
        await switch(client, celery_percentage=1.0, reason="go")
        await submit(client, "print('b')", eval_id="new")
        ran = legacy.executor.runs
        async with running_api(redis_url, queue_service_url=legacy.url) as other:
            assert (await submit(other, "print('a')", eval_id="old"))["queue_system"] == "legacy"
            await switch(other, force_legacy_queue=True, reason="back")
            assert (await submit(other, "print('b')", eval_id="new"))["queue_system"] == "celery"
            assert (await completed(other, "new"))["output"] == "b\n"
            async with other.post(
                "/api/eval", json={"code": "print('c')", "eval_id": "old"}
            ) as response:
                assert response.status == 409
        assert legacy.executor.runs == ran


async def test_dual_write_runs_both_and_counts_equal_ends(redis_url: str) -> None:
    """Both sides run the same evaluation; equal ends are counted, and none is a mismatch."""
    celery = LocalExecutor()
    async with both_sides(redis_url, dual_write=True, celery_executor=celery) as (client, legacy):
        ids = [(await submit(client, f"print({n})"))["eval_id"] for n in range(10)]
        for eval_id in ids:
            assert (await completed(client, eval_id))["queue_system"] == "legacy"

        async def compared() -> Any:
            return (await status(client))["compared"]["equal"] == 10

        await until(compared)
        assert (legacy.executor.runs, celery.runs) == (10, 10)
        async with client.get("/api/v1/migration/mismatches") as response:
            assert (await response.json())["mismatches"] == []


async def test_a_switch_reaches_every_process_within_a_second(redis_url: str) -> None:
    """A change in one api process is in force in another, stored, and audited."""
    async with both_sides(redis_url, celery_percentage=0.0) as (client, legacy):
        async with running_api(redis_url, queue_service_url=legacy.url) as other:
            await switch(client, celery_percentage=1.0, by="ann", reason="all of it")

            async def arrived() -> Any:
                return (await status(other))["switches"]["revision"] == 1

            await until(arrived, timeout_s=1.0)
            assert (await submit(other, "print(1)"))["queue_system"] == "celery"
            [entry] = (await status(other))["audit"]
    assert (entry["by"], entry["reason"]) == ("ann", "all of it")
    assert (entry["mode_from"], entry["mode_to"]) == ("legacy_only", "celery_primary")


async def test_force_in_the_environment_beats_what_is_stored(redis_url: str) -> None:
    """A process started with FORCE_LEGACY_QUEUE sends all to legacy whatever is stored."""
    async with both_sides(redis_url) as (client, legacy):
        await switch(client, celery_percentage=1.0)
        async with running_api(
            redis_url, queue_service_url=legacy.url, force_legacy_queue=True
        ) as forced:
            assert (await submit(forced, "print(1)"))["queue_system"] == "legacy"
            assert (await status(forced))["mode"] == "legacy_only"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"celery_percentage": 1.5}, "CELERY_PERCENTAGE"),
        ({"celery_percentage": "ten"}, "celery_percentage"),
        ({"celery_percentage": -0.01}, "CELERY_PERCENTAGE"),
        ({"celery_percentage": "NaN"}, "celery_percentage"),
        ({"celery_percentage": float("nan")}, "CELERY_PERCENTAGE"),
        ({"celery_percentage": float("inf")}, "CELERY_PERCENTAGE"),
        ({"dual_write": True, "celery_percentage": 0.5}, "CRUCIBLE_DUAL_WRITE"),
        ({"dual_write": True, "celery_enabled": False}, "CRUCIBLE_DUAL_WRITE"),
        ({"celery_enabled": "yes"}, "celery_enabled"),
        ({"percentage": 0.5}, "percentage"),
        ({}, "body"),
        ({"by": "somebody"}, "body"),
    ],
)
async def test_bad_switches_are_refused_and_named(
    redis_url: str, body: dict[str, object], field: str
) -> None:
    """422 names the setting, and nothing changes."""
    async with both_sides(redis_url, workers=0) as (client, _):
        async with client.put("/api/v1/migration", json=body) as response:
            answer = await response.json()
        assert (response.status, answer["field"]) == (422, field)
        assert (await status(client))["switches"]["revision"] == 0


async def test_switches_that_need_a_legacy_queue_name_it_where_there_is_none(
    redis_url: str,
) -> None:
    """Without a legacy queue the router is not there, and 422 names QUEUE_SERVICE_URL."""
    async with running_api(redis_url) as client:
        assert (await status(client))["mode"] == "celery_only"
        for body in ({"celery_percentage": 0.5}, {"force_legacy_queue": True}):
            async with client.put("/api/v1/migration", json=body) as response:
                answer = await response.json()
            assert (response.status, answer["field"]) == (422, "QUEUE_SERVICE_URL")


async def test_a_stale_change_is_refused(redis_url: str) -> None:
    """Somebody who read revision 0 cannot overwrite revision 1."""
    async with both_sides(redis_url, workers=0) as (client, _):
        await switch(client, celery_percentage=0.5, expected_revision=0)
        body = {"celery_percentage": 0.9, "expected_revision": 0}
        async with client.put("/api/v1/migration", json=body) as response:
            assert response.status == 409
        assert (await status(client))["switches"]["celery_percentage"] == 0.5


async def test_what_waits_on_the_legacy_side_is_cancelled(redis_url: str) -> None:
    """DELETE takes a queued evaluation and its copy out; a running one is refused with 409."""
    async with LegacyInstallation(LocalExecutor(), 0) as legacy:
        async with running_api(redis_url, queue_service_url=legacy.url, dual_write=True) as client:
            eval_id = (await submit(client, "print(1)"))["eval_id"]
            async with client.delete(f"/api/eval/{eval_id}") as response:
                assert (await response.json())["status"] == "cancelled"
            running = (await submit(client, "print(2)"))["eval_id"]
            legacy.queue.take("w")
            async with client.delete(f"/api/eval/{running}") as response:
                assert response.status == 409
            assert (await look(client, running))["status"] == "running"


async def test_metrics_name_both_sides(redis_url: str, redis: Redis) -> None:
    """/metrics has the names of the migration's dashboards, with true numbers."""
    async with both_sides(redis_url, celery_percentage=0.5) as (client, _):
        taken = [await submit(client, "print(1)", eval_id=f"m{n}") for n in range(8)]
        sides = Counter(one["queue_system"] for one in taken)
        for one in taken:
            await completed(client, one["eval_id"])

        async def counted() -> str:
            async with client.get("/metrics") as response:
                text = await response.text()
            lines = [line for line in text.splitlines() if line.startswith("tasks_completed_total")]
            return text if sum(float(line.split()[-1]) for line in lines) == 8 else ""

        text = await until(counted)
    assert f"celery_tasks_submitted_total {float(sides['celery'])}" in text
    assert f"legacy_tasks_submitted_total {float(sides['legacy'])}" in text
    assert f'tasks_submitted_total{{queue_system="legacy"}} {float(sides["legacy"])}' in text
    for name in (
        'task_duration_seconds_count{queue_system="celery"}',
        "queue_selection_duration_seconds_count 8.0",
        'queue_depth{queue="evaluation",queue_system="celery"} 0.0',
        'queue_depth{queue="legacy",queue_system="legacy"} 0.0',
        'circuit_breaker_state{downstream="legacy"} 0.0',
    ):
        assert name in text, name


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda o: {"stdout": o.stdout[:-1]}, "output"),
        (lambda o: {"exit_code": (o.exit_code or 0) + 1}, "exit_code"),
        (lambda o: {"stdout": o.stderr, "stderr": o.stdout}, "output"),
    ],
    ids=["drops-the-last-byte", "changes-the-exit-code", "swaps-stderr"],
)
async def test_a_wrong_executor_is_caught_by_dual_write(
    redis_url: str, spoil: Any, field: str
) -> None:
    """An executor that is wrong on the Celery side is a mismatch well within a minute."""
    wrong = LocalExecutor(lambda o: msgspec.structs.replace(o, **spoil(o)))
    async with both_sides(redis_url, dual_write=True, celery_executor=wrong) as (client, _):
        await submit(client, "import sys; print('out'); print('err', file=sys.stderr)")

        async def caught() -> object:
            async with client.get("/api/v1/migration/mismatches") as response:
                answer = await response.json()
            return answer["compared"]["mismatch"] == 1 and answer["mismatches"]

        [found] = await until(caught, timeout_s=30)
    assert found["confirmed"] is True
    assert field in [one["field"] for one in found["comparison"]["differences"]]


async def test_a_nondeterministic_program_is_no_mismatch(redis_url: str) -> None:
    """A program that prints the time differs from itself, which is told apart."""
    async with both_sides(redis_url, dual_write=True) as (client, _):
        await submit(client, "import time; print(time.time_ns())")

        async def judged() -> Any:
            return (await status(client))["compared"]["nondeterministic"] == 1

        await until(judged, timeout_s=30)
        assert (await status(client))["compared"]["mismatch"] == 0


async def test_submissions_go_on_through_every_change_of_mode(redis_url: str) -> None:
    """Under steady load no request fails while the mode goes all the way and back."""
    async with both_sides(redis_url, celery_percentage=0.0) as (client, _):
        ids: list[str] = []
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                ids.append((await submit(client, "print(7)"))["eval_id"])

        loading = asyncio.create_task(load())
        for fields in (
            {"dual_write": True},
            {"dual_write": False, "celery_percentage": 0.1},
            {"celery_percentage": 0.5},
            {"celery_percentage": 1.0},
            {"force_legacy_queue": True},
        ):
            await switch(client, **fields)
            await until(partial(_grown, ids, len(ids) + 5))
        done.set()
        await loading
        ended = [await completed(client, eval_id) for eval_id in ids]
    assert {one["output"] for one in ended} == {"7\n"}
    assert {one["queue_system"] for one in ended} == {"celery", "legacy"}


async def test_readiness_follows_the_side_that_the_mode_needs(redis_url: str) -> None:
    """/ready names mode, legacy queue and circuits; a dead side counts only where it is needed."""
    async with both_sides(redis_url) as (client, legacy):
        async with client.get("/ready") as response:
            report = await response.json()
        assert (response.status, report["mode"]) == (200, "celery_primary")
        assert report["circuits"] == {"queue": "closed", "records": "closed", "legacy": "closed"}
        assert report["dependencies"]["legacy"]["ok"] is True
        await legacy.crash()
        async with client.get("/ready") as response:
            assert (response.status, (await response.json())["legacy"]) == (200, "standby")
        await switch(client, force_legacy_queue=True)
        async with client.get("/ready") as response:
            report = await response.json()
        assert (response.status, report["dependencies"]["legacy"]["ok"]) == (503, False)


def _grown(ids: list[str], size: int) -> bool:
    return len(ids) >= size


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
async def test_a_change_that_is_no_json_is_refused(redis_url: str, body: bytes) -> None:
    """400, and nothing changes."""
    async with both_sides(redis_url, workers=0) as (client, _):
        headers = {"Content-Type": "application/json"}
        async with client.put("/api/v1/migration", data=body, headers=headers) as response:
            assert (response.status, (await response.json())["field"]) == (400, "body")
        assert (await status(client))["switches"]["revision"] == 0

"""Assessments through the API, the queue and workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import running_api
from support.assessment_rig import Programs, ask, case, serving, started, until, waiting
from support.keyed import make_key

from crucible.broker import Publisher

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_a_suite_is_run_and_reported(redis_url: str) -> None:
    """Every case once, with its verdict, weight, repetitions and what to do about it."""
    programs = Programs()
    cases = [
        case(id="good", name="good <one>"),
        case("timeout", id="slow", weight=2.0),
        case(by_turn=["ok", "signalled"], id="flaky", repetitions=4),
    ]
    async with running_api(redis_url) as client, serving(redis_url, programs):
        href = await started(client, cases=cases, pass_score=0.3)
        found = await until(client, href)
        assert (found["status"], found["progress"]) == ("completed", 100)
        # The answer to the first request may have been lost.
        status, again = await ask(client, "POST", f"{href}/start")
        assert (status, again["status"]) == (202, "completed")
        assert (found["runs"], found["runs_ended"], found["passed_cases"]) == (6, 6, 1)
        assert sorted(programs.ran) == sorted(set(programs.ran))
        assert len(programs.ran) == 6
        # 1 of weight 1, 0 of weight 2, half of weight 1.
        assert found["score"] == pytest.approx(1.5 / 4)
        assert found["passed"] is True
        _, report = await ask(client, "GET", found["report"])
        by_id = {one["id"]: one for one in report["cases"]}
        assert by_id["slow"]["verdict"] == "timeout"
        assert by_id["flaky"]["flaky"] is True
        assert by_id["flaky"]["verdicts"] == {"ok": 2, "signalled": 2}
        kinds = [one["kind"] for one in report["recommendations"]]
        assert sorted(kinds) == ["flaky", "raise_limit"]
        assert report["summary"]["verdicts"] == {"ok": 1, "timeout": 1, "signalled": 1}
        _, html = await ask(client, "GET", f"{href}/report?format=html")
        assert "good &lt;one&gt;" in html
        assert "<script" not in html
        _, junit = await ask(client, "GET", f"{href}/report?format=junit")
        assert 'tests="3" failures="2"' in junit


async def test_a_stock_client_sees_the_same(redis_url: str) -> None:
    """``/tasks/{id}`` and the stored result agree with the assessment, while it runs and after."""
    programs = Programs()
    async with (
        running_api(redis_url) as client,
        Publisher.connect(redis_url) as publisher,
        serving(redis_url, programs, concurrency=2),
    ):
        href = await started(client, cases=[case(), case(hold=True)])
        async with asyncio.timeout(30):
            while (await until(client, href, "running"))["runs_ended"] < 1:
                await asyncio.sleep(0.02)
            task_id = (await until(client, href, "running"))["task_id"]
            while True:
                meta = await publisher.results.meta(task_id)
                if meta is not None and meta.status == "PROGRESS" and meta.result["progress"] > 0:
                    break
                await asyncio.sleep(0.02)
        shown = await until(client, href, "running")
        assert meta.result == shown["info"]
        assert shown["info"]["progress"] == 49.5
        _, task = await ask(client, "GET", f"/tasks/{task_id}")
        assert task["info"] == shown["info"]
        assert task["state"] == "PROGRESS"
        programs.released.set()
        done = await until(client, href)
        async with asyncio.timeout(30):
            while (await ask(client, "GET", f"/tasks/{task_id}"))[1]["state"] != "SUCCESS":
                await asyncio.sleep(0.02)
        meta = await publisher.results.meta(task_id)
        assert meta is not None
        assert meta.result["passed"] is done["passed"] is True
        assert meta.result["assessment_id"] == done["assessment_id"]


async def test_one_slot_is_enough(redis_url: str) -> None:
    """A worker that runs one task at a time runs the assessment and its cases in turn."""
    programs = Programs()
    async with running_api(redis_url) as client, serving(redis_url, programs, concurrency=1):
        href = await started(client, cases=[case() for _ in range(5)])
        assert (await until(client, href))["passed"] is True
    assert len(programs.ran) == 5


async def test_cancelling_leaves_nothing_queued(redis_url: str, redis: Redis) -> None:
    """What waits is revoked, what runs is stopped, and no case is submitted after that."""
    programs = Programs()
    async with running_api(redis_url) as client, serving(redis_url, programs, concurrency=4):
        href = await started(client, cases=[case(hold=True) for _ in range(300)])
        async with asyncio.timeout(30):
            while len(programs.ran) < 3:
                await asyncio.sleep(0.02)
        status, found = await ask(client, "DELETE", href)
        assert (status, found["status"]) == (200, "cancelled")
        async with asyncio.timeout(30):
            while await waiting(redis):
                await asyncio.sleep(0.05)
        ran = len(programs.ran)
        assert ran < 10
        assert (await ask(client, "DELETE", href))[1]["status"] == "cancelled"
        assert (await ask(client, "POST", f"{href}/start"))[0] == 409
        assert (await ask(client, "GET", f"{href}/report"))[0] == 409
        _, one = await ask(client, "GET", f"/api/eval/as-{found['assessment_id']}-0")
        assert one["status"] == "cancelled"


async def test_wrong_suites_are_refused_at_their_place(redis_url: str, redis: Redis) -> None:
    """The field and its place are named, and nothing is kept or queued."""
    many = [case() for _ in range(40)]
    many[37] |= {"language": "cobol"}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"cases": []}, "cases"),
        ({}, "cases"),
        ({"cases": many}, "cases[37].language"),
        ({"cases": [case(), case(limits={"wall_time_s": -1})]}, "cases[1].limits.wall_time_s"),
        ({"cases": [case(id="a"), case(id="a")]}, "cases[1].id"),
        ({"cases": [case(repetitions=0)]}, "cases[0].repetitions"),
        ({"cases": [case() | {"code": " "}]}, "cases[0].code"),
        ({"cases": [case()], "pass_score": 2}, "pass_score"),
    ]
    async with running_api(redis_url) as client:
        for body, field in wrong:
            status, problem = await ask(client, "POST", "/assessments", {"name": "x", **body})
            assert (status, problem["field"]) == (422, field), problem
        assert await waiting(redis) == 0
        assert (await ask(client, "GET", "/assessments"))[1] == {"assessments": []}
        assert (await ask(client, "POST", "/assessments/none/start"))[0] == 404


async def test_a_large_suite_comes_in_parts(redis_url: str) -> None:
    """A draft takes cases; the same part twice counts once; it cannot start without any."""
    async with running_api(redis_url) as client:
        body = {"name": "parts", "draft": True, "assessment_id": "parts"}
        assert (await ask(client, "POST", "/assessments", body))[0] == 201
        assert (await ask(client, "POST", "/assessments", body))[0] == 200
        assert (await ask(client, "POST", "/assessments", body | {"name": "z"}))[0] == 409
        href = "/api/v1/assessments/parts"
        status, problem = await ask(client, "POST", f"{href}/start")
        assert (status, problem["field"]) == (422, "cases")
        first = {"at": 0, "cases": [case(), case()]}
        for _ in range(2):
            status, found = await ask(client, "POST", f"{href}/cases", first)
            assert (status, found["cases"]) == (200, 2)
        clash = {"at": 2, "cases": [case(), case(id="0")]}
        status, problem = await ask(client, "POST", f"{href}/cases", clash)
        assert (status, problem["field"]) == (422, "cases[1].id")
        gap = {"at": 7, "cases": [case()]}
        assert (await ask(client, "POST", f"{href}/cases", gap))[1]["field"] == "at"
        assert (await ask(client, "POST", f"{href}/start"))[0] == 202
        assert (await ask(client, "POST", f"{href}/cases", gap))[0] == 409


async def test_starting_twice_runs_once(redis_url: str, redis: Redis) -> None:
    """A client that asks again, and one that asks at the same time, start one task."""
    async with running_api(redis_url) as client:
        href = await started(client, cases=[case()])
        again = await asyncio.gather(*(ask(client, "POST", f"{href}/start") for _ in range(5)))
        assert {status for status, _ in again} == {202}
        assert await waiting(redis) == 1


async def test_tenants_do_not_see_each_other(redis_url: str) -> None:
    """Another tenant's assessment is unknown, and so is its task; both may use one id."""
    acme, other = await make_key(redis_url, "acme"), await make_key(redis_url, "other")
    async with running_api(redis_url) as client:
        body = {"name": "a", "assessment_id": "same", "cases": [case()]}
        for key, name in ((acme, "a"), (other, "b")):
            async with client.post(
                "/assessments", json=body | {"name": name}, headers=key.headers
            ) as response:
                assert response.status == 201
        for key, name in ((acme, "a"), (other, "b")):
            async with client.get("/assessments", headers=key.headers) as response:
                found = (await response.json())["assessments"]
            assert [(one["assessment_id"], one["name"]) for one in found] == [("same", name)]
        only = body | {"assessment_id": "mine"}
        async with client.post("/assessments", json=only, headers=acme.headers) as response:
            assert response.status == 201
        for path in ("/assessments/mine", "/assessments/acme:mine", "/tasks/assessment-mine"):
            async with client.get(path, headers=other.headers) as response:
                assert response.status == 404, path
        purge = "/assessments/mine?purge=true"
        async with client.delete(purge, headers=other.headers) as response:
            assert response.status == 404
        async with client.get("/tasks/assessment-mine", headers=acme.headers) as response:
            assert response.status == 200


async def test_one_that_has_ended_is_deleted(redis_url: str, redis: Redis) -> None:
    """With all its keys; its runs stay, and its id is free again."""
    programs = Programs()
    async with running_api(redis_url) as client, serving(redis_url, programs):
        href = await started(client, cases=[case(), case(hold=True)])
        purge = f"{href}?purge=true"
        await until(client, href, "running")
        assert (await ask(client, "DELETE", purge))[0] == 409
        programs.released.set()
        own_id = (await until(client, href))["assessment_id"]
        status, problem = await ask(client, "DELETE", f"{href}?purge=yes")
        assert (status, problem["field"]) == (422, "purge")
        assert await ask(client, "DELETE", purge) == (
            200,
            {"assessment_id": own_id, "purged": True},
        )
        assert (await ask(client, "GET", href))[0] == 404
        assert (await ask(client, "DELETE", purge))[0] == 404
        assert (await ask(client, "GET", "/assessments"))[1] == {"assessments": []}
        assert [key async for key in redis.scan_iter("*assessment:*")] == []
        assert (await ask(client, "GET", f"/api/eval/as-{own_id}-0"))[1]["verdict"] == "ok"
        body = {"name": "again", "assessment_id": own_id, "cases": [case()]}
        assert (await ask(client, "POST", "/assessments", body))[0] == 201


async def test_the_oldest_that_has_ended_makes_room(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not ended stays; with nothing else there, the error says what to do."""
    monkeypatch.setattr("crucible.assessments.store.MAX_KEPT", 3)
    async with running_api(redis_url) as client:

        async def make(name: str) -> tuple[int, dict[str, Any]]:
            body = {"name": name, "assessment_id": name, "cases": [case()]}
            return await ask(client, "POST", "/assessments", body)

        async def kept() -> list[str]:
            found = (await ask(client, "GET", "/assessments"))[1]["assessments"]
            return [one["assessment_id"] for one in found]

        for name in ("waits", "ended", "ended-too"):
            assert (await make(name))[0] == 201
            # The index has them by the millisecond.
            await asyncio.sleep(0.002)
        for name in ("ended-too", "ended"):
            await ask(client, "DELETE", f"/assessments/{name}")
        assert (await make("waits"))[0] == 200
        assert (await make("new"))[0] == 201
        assert await kept() == ["new", "ended-too", "waits"]
        assert [key async for key in redis.scan_iter("*assessment:*:ended")] == []
        assert (await make("newer"))[0] == 201
        assert await kept() == ["newer", "new", "waits"]
        status, problem = await make("one-more")
        assert (status, problem["field"]) == (409, "assessment_id")
        assert "cancel or purge" in problem["detail"]
        await redis.delete(*[key async for key in redis.scan_iter("*assessment:*waits")])
        assert (await make("one-more"))[0] == 201
        assert await kept() == ["one-more", "newer", "new"]


async def test_two_assessments_are_compared(redis_url: str) -> None:
    """What got worse, what got better, what is new."""
    programs = Programs()
    async with running_api(redis_url) as client, serving(redis_url, programs):
        before = [case(id="a"), case("timeout", id="b"), case(id="c"), case(id="gone")]
        after = [case("signalled", id="a"), case(id="b"), case(id="c", ms=400), case(id="new")]
        first = await until(client, await started(client, cases=before))
        second = await until(client, await started(client, cases=after))
        path = f"{second['href']}/report?baseline={first['assessment_id']}"
        _, changes = await ask(client, "GET", path)
        assert {
            kind: [one["case"] for one in changes[kind]]
            for kind in ("regressions", "improvements", "slower", "added", "removed")
        } == {
            "regressions": ["a"],
            "improvements": ["b"],
            "slower": ["c"],
            "added": ["new"],
            "removed": ["gone"],
        }

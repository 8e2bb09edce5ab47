"""The history behind keys, and as the client lists it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import port_of, running_api
from support.history_rig import START_MS, end_of, life, migrated, rows_of
from support.keyed import make_key
from support.migration_rig import celery_worker
from support.patience import PATIENCE_S

from crucible.breaker import BreakerPolicy
from crucible.client import ApiRefused, AsyncCrucible
from crucible.history.historian import open_historian
from crucible.history.schema import evaluations
from crucible.history.writer import HistoryWriter
from crucible.models import Status
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp
    from support.keyed import Made


def url_in(directory: Path) -> str:
    """A database of the test's own."""
    return f"sqlite:///{directory}/history.sqlite"


async def get(
    client: aiohttp.ClientSession, path: str, key: Made, status: int = 200
) -> dict[str, Any]:
    """The answer to a GET with a key."""
    async with client.get(path, headers=key.headers) as response:
        found: dict[str, Any] = await response.json()
        assert response.status == status, found
        return found


async def test_only_admins_name_another_tenant(redis_url: str, tmp_path: Path) -> None:
    """Whatever is asked, a key sees its own tenant; and it takes the scope ``read``."""
    acme = await make_key(redis_url, "acme", "read")
    other = await make_key(redis_url, "other", "read")
    admin = await make_key(redis_url, "ops", "read", "admin")
    submitter = await make_key(redis_url, "acme", "submit")
    async with migrated(url_in(tmp_path)) as engine:
        await HistoryWriter(engine).write(life("mine", tenant="acme"))
        async with running_api(redis_url, history_url=url_in(tmp_path)) as client:
            for path in ("/api/eval", "/api/v1/stats"):
                await get(client, path, submitter, 403)
                await get(client, f"{path}?tenant=acme", other, 403)
                await get(client, f"{path}?tenant=acme", acme)
                async with client.get(path) as response:
                    assert response.status == 401
            query = "/api/v1/stats?since=2026-11-28T00:00:00Z&until=2026-11-30T00:00:00Z"
            for key, asked, expected in (
                (acme, "", ["mine"]),
                (other, "", []),
                (admin, "", []),
                (admin, "&tenant=acme", ["mine"]),
            ):
                page = await get(client, f"/api/eval?limit=5{asked}", key)
                assert [one["eval_id"] for one in page["items"]] == expected
                counted = await get(client, f"{query}{asked}", key)
                assert counted["total"] == len(expected)
            assert (await get(client, "/api/eval/mine", acme))["status"] == "completed"
            for spelt in ("mine", "acme:mine"):
                await get(client, f"/api/eval/{spelt}", other, 404)


async def test_the_client_lists_page_by_page(redis_url: str, tmp_path: Path) -> None:
    """All that fit, newest first, as typed evaluations; a filter that is wrong is refused."""
    key = await make_key(redis_url, "acme", "read")
    events = [event for n in range(150) for event in life(f"e{n:03}", tenant="acme")]
    async with migrated(url_in(tmp_path)) as engine:
        await HistoryWriter(engine).write(events)
        async with (
            running_api(redis_url, history_url=url_in(tmp_path)) as session,
            AsyncCrucible(f"http://127.0.0.1:{port_of(session)}", key=key.secret) as client,
        ):
            found = [one async for one in client.list(status="completed", language="python")]
            assert [one.eval_id for one in found] == [f"e{n:03}" for n in reversed(range(150))]
            assert {one.status for one in found} == {Status.COMPLETED}
            assert [one async for one in client.list(verdict="timeout")] == []
            with pytest.raises(ApiRefused, match="status"):
                [one async for one in client.list(status="done")]


async def test_rows_have_the_ids_that_clients_know(redis_url: str, tmp_path: Path) -> None:
    """Of two tenants with the same id, from the submission to the database."""
    keys = {tenant: await make_key(redis_url, tenant) for tenant in ("acme", "other")}
    stop, policy = asyncio.Event(), BreakerPolicy()
    async with (
        migrated(url_in(tmp_path)) as engine,
        open_historian(url_in(tmp_path), redis_url, Keys(), count=100, policy=policy) as historian,
    ):
        working = asyncio.create_task(historian.run(stop))
        async with (
            running_api(redis_url, history_url=url_in(tmp_path)) as client,
            celery_worker(redis_url),
        ):
            for key in keys.values():
                body = {"code": "print(1)", "eval_id": "same"}
                async with client.post("/api/eval", json=body, headers=key.headers) as response:
                    assert response.status == 202
            async with asyncio.timeout(PATIENCE_S):
                while [row["status"] for row in await rows_of(engine, evaluations)] != (
                    ["completed"] * 2
                ):
                    await asyncio.sleep(0.05)
            for key in keys.values():
                [past] = (await get(client, "/api/eval", key))["items"]
                now = await get(client, "/api/eval/same", key)
                for name in ("eval_id", "task_id", "celery_task_id", "status", "verdict"):
                    assert past[name] == now[name]
        stop.set()
        await working
        rows = await rows_of(engine, evaluations)
    assert [(row["tenant"], row["eval_id"]) for row in rows] == [
        ("acme", "same"),
        ("other", "same"),
    ]


async def test_tasks_are_listed_after_their_results_are_gone(
    redis_url: str, tmp_path: Path
) -> None:
    """By Celery's states, newest first, page by page; one by one; of the key's tenant only."""
    acme = await make_key(redis_url, "acme")
    other = await make_key(redis_url, "other")
    events = []
    for number in range(30):
        queued, running, _ = life(f"e{number:02}", tenant="acme", at=START_MS + number * 1000)
        verdict = ("ok", "timeout", "internal_error")[number % 3]
        ending = {"status": "completed" if verdict == "ok" else "failed"}
        events += [queued, running, end_of(running, verdict, message="why", **ending)]
    async with migrated(url_in(tmp_path)) as engine:
        await HistoryWriter(engine).write(events)
        async with running_api(redis_url, history_url=url_in(tmp_path)) as client:
            body = {"code": "1", "eval_id": "waits"}
            async with client.post("/api/eval", json=body, headers=acme.headers) as response:
                assert response.status == 202

            async def listed(key: Made, query: str = "") -> dict[str, str]:
                found: dict[str, str] = {}
                cursor = ""
                while True:
                    page = await get(client, f"/tasks?limit=4{query}{cursor}", key)
                    for one in page["tasks"]:
                        assert one["task_id"] not in found
                        found[one["task_id"]] = one["state"]
                    if page["cursor"] is None:
                        return found
                    cursor = f"&cursor={page['cursor']}"

            states = ("SUCCESS", "SUCCESS", "FAILURE")
            past = {f"eval-e{n:02}": states[n % 3] for n in reversed(range(30))}
            assert await listed(acme) == {"eval-waits": "PENDING", **past}
            assert await listed(acme, "&state=PENDING,STARTED") == {"eval-waits": "PENDING"}
            for state in ("SUCCESS", "FAILURE"):
                chosen = {task: one for task, one in past.items() if one == state}
                assert await listed(acme, f"&state={state}") == chosen
                assert list(await listed(acme, f"&state={state}")) == list(chosen)
            assert await listed(acme, "&state=REVOKED") == {}
            assert await listed(other) == {}
            await get(client, "/tasks?state=", acme, 422)
            assert (await get(client, "/tasks/eval-e01", acme))["state"] == "SUCCESS"
            outcome = await get(client, "/tasks/eval-e02/result", acme)
            assert (outcome["state"], outcome["error"], outcome["result"]["verdict"]) == (
                "FAILURE",
                "why",
                "internal_error",
            )
            await get(client, "/tasks/eval-e01", other, 404)


async def test_a_task_that_just_ended_is_listed_once(redis_url: str, tmp_path: Path) -> None:
    """Although the history has not heard of it yet, and once it has."""
    async with (
        migrated(url_in(tmp_path)) as engine,
        running_api(redis_url, history_url=url_in(tmp_path)) as client,
    ):
        async with celery_worker(redis_url):
            async with client.post("/api/eval?wait=20", json={"code": "1", "eval_id": "e"}) as one:
                assert (await one.json())["status"] == "completed"
        for events in ([], life("e")[:1], life("e")):
            await HistoryWriter(engine).write(events)
            async with client.get("/tasks") as response:
                tasks = (await response.json())["tasks"]
            assert [(one["task_id"], one["state"]) for one in tasks] == [("eval-e", "SUCCESS")]

"""The history behind keys, and as the client lists it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import port_of, running_api
from support.history_rig import life, migrated, rows_of
from support.keyed import make_key
from support.migration_rig import celery_worker

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

#: Seconds after which something hangs.
PATIENCE_S = 60.0


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

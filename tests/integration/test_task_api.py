"""The task API: Celery's view of evaluations and of anybody's tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import running_api
from support.held import Held
from support.worker_rig import START_S, stock_worker

from crucible.broker import Publisher
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    import aiohttp


@pytest.fixture
def held() -> Held:
    """Tasks of the running test."""
    return Held()


def serving(held: Held, url: str, **more: Any) -> Worker:
    return Worker(held.registry, broker_url=url, queues=("evaluation", "celery"), **more)


async def ask(
    client: aiohttp.ClientSession, path: str, method: str = "GET"
) -> tuple[int, dict[str, Any]]:
    async with client.request(method, path) as response:
        return response.status, await response.json()


async def until(client: aiohttp.ClientSession, task_id: str, state: str) -> dict[str, Any]:
    async with asyncio.timeout(START_S):
        while True:
            status, found = await ask(client, f"/tasks/{task_id}")
            if status == 200 and found["state"] == state:
                return found
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_an_evaluation_is_a_task(redis_url: str, prefix: str, held: Held) -> None:
    """It has Celery's states from its submission to its end."""
    async with running_api(redis_url) as client:
        async with client.post("/api/eval", json={"code": "42", "eval_id": "e"}) as response:
            assert response.status == 202
        status, found = await ask(client, f"{prefix}/tasks/eval-e")
        assert (status, found["state"], found["ready"]) == (200, "PENDING", False)
        assert (found["eval_id"], found["queue"]) == ("e", "evaluation")
        assert found["info"]["progress"] == 0
        assert found["info"]["current_step"] == "queued"
        assert found["info"]["updated_at"] == found["created_at"]
        assert (await ask(client, f"{prefix}/tasks/eval-e/result"))[0] == 202
        async with serving(held, redis_url):
            await until(client, "eval-e", "SUCCESS")
        status, outcome = await ask(client, f"{prefix}/tasks/eval-e/result")
        assert (status, outcome["state"], outcome["error"]) == (200, "SUCCESS", None)
        assert outcome["result"]["output"] == "42"
        assert (await ask(client, f"{prefix}/tasks/eval-nobody"))[0] == 404
        assert (await ask(client, f"{prefix}/tasks/eval-other:e"))[0] == 404


async def test_any_task_says_how_far_it_is(redis_url: str, held: Held) -> None:
    """What it reports is in ``info``; what it fails with in its result."""
    async with running_api(redis_url) as client, Publisher.connect(redis_url) as publisher:
        async with serving(held, redis_url):
            sent = await publisher.send_task("demo.steps")
            found = await until(client, sent.id, "PROGRESS")
            info = found["info"]
            assert (info["progress"], info["current_step"]) == (25, "loading")
            assert info["message"] == "one of four"
            held.released.set()
            await until(client, sent.id, "FAILURE")
            _, outcome = await ask(client, f"/tasks/{sent.id}/result")
            assert outcome["error"] == "RuntimeError: no good"
            assert "RuntimeError" in outcome["traceback"]


async def test_the_list_has_what_waits_what_runs_and_what_ended(redis_url: str, held: Held) -> None:
    """Page by page, each once while nothing moves."""
    async with running_api(redis_url) as client:
        async with serving(held, redis_url, concurrency=1):
            for code in ("done", "hold"):
                body = {"code": code, "eval_id": code}
                async with client.post("/api/eval", json=body) as response:
                    assert response.status == 202
                await until(client, f"eval-{code}", "SUCCESS" if code == "done" else "STARTED")
            items = [{"code": "1", "eval_id": f"w{n}"} for n in range(20)]
            async with client.post("/api/eval/batch", json=items) as response:
                assert response.status == 202
            found: list[dict[str, Any]] = []
            query = "?limit=7"
            async with asyncio.timeout(START_S):
                while query:
                    _, page = await ask(client, f"/tasks{query}")
                    assert len(page["tasks"]) <= 7
                    found += page["tasks"]
                    query = page["cursor"] and f"?limit=7&cursor={page['cursor']}"
            states = {one["task_id"]: one["state"] for one in found}
            assert states.pop("eval-done") == "SUCCESS"
            assert states.pop("eval-hold") == "STARTED"
            assert states == {f"eval-w{n}": "PENDING" for n in range(20)}
            assert (await ask(client, "/tasks?cursor=x"))[0] == 422
            held.released.set()


async def test_deleting_a_task_stops_it(redis_url: str, held: Held) -> None:
    """Queued or running; what has ended stays as it is."""
    async with running_api(redis_url) as client, Publisher.connect(redis_url) as publisher:
        async with client.post("/api/eval", json={"code": "1", "eval_id": "e"}) as response:
            assert response.status == 202
        status, found = await ask(client, "/tasks/eval-e", "DELETE")
        assert (status, found["state"], found["info"]["current_step"]) == (
            200,
            "REVOKED",
            "cancelled",
        )
        async with serving(held, redis_url):
            sent = await publisher.send_task("demo.steps")
            await until(client, sent.id, "PROGRESS")
            assert (await ask(client, f"/tasks/{sent.id}", "DELETE"))[0] in (200, 202)
            await until(client, sent.id, "REVOKED")
        assert (await ask(client, "/tasks/eval-nobody", "DELETE"))[0] == 404


async def test_workers_of_both_kinds_are_shown(redis_url: str, held: Held) -> None:
    """With name, status, pool, concurrency, active tasks and queues."""
    async with running_api(redis_url) as client:
        _, nobody = await ask(client, "/workers/status")
        assert nobody == {"workers": [], "total": 0, "online": 0}
        async with (
            stock_worker(redis_url, pool="threads"),
            serving(held, redis_url, concurrency=3),
            asyncio.timeout(START_S),
        ):
            found: dict[str, Any] = {"total": 0}
            while found["total"] < 2:
                _, found = await ask(client, "/api/v1/tasks/workers/status")
                await asyncio.sleep(0.05)
        kinds = {one["kind"]: one for one in found["workers"]}
        assert found["online"] == 2
        ours, theirs = kinds["async"], kinds["stock"]
        assert (ours["pool"], ours["concurrency"], ours["active_tasks"]) == ("asyncio", 3, 0)
        assert (ours["queues"], ours["status"]) == (["evaluation", "celery"], "online")
        assert (theirs["pool"], theirs["concurrency"]) == ("threads", 2)
        assert "evaluation" in theirs["queues"]


async def test_what_has_ended_is_on_the_first_page(redis_url: str, held: Held) -> None:
    """Empty queues take no part of the page's work; states select."""
    async with running_api(redis_url) as client:
        async with serving(held, redis_url):
            for n in range(3):
                body = {"code": "1", "eval_id": f"e{n}"}
                async with client.post("/api/eval?wait=20", json=body) as response:
                    assert response.status == 200
        for query, count in (("", 3), ("?state=SUCCESS", 3), ("?state=PENDING,FAILURE", 0)):
            _, page = await ask(client, f"/tasks{query}")
            assert (len(page["tasks"]), page["cursor"]) == (count, None)

"""Cancelling evaluations over HTTP and at the command line."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import pytest
from support.api_rig import running_api
from support.patience import PATIENCE_S
from support.worker_rig import crucible

from crucible.broker.control.client import ControlClient
from crucible.broker.control.revoked import RevokedKey
from crucible.evaluation.result import plain, result_of
from crucible.evaluation.view import now_text
from crucible.models import Outcome, Verdict
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    import aiohttp
    from redis.asyncio import Redis

    from crucible.worker import TaskContext

registry = TaskRegistry()
stopped: list[str] = []


@registry.task("tasks.evaluate_code", track_started=True)
async def evaluate(ctx: TaskContext, eval_id: str, code: str, language: str, **_: Any) -> Any:
    """Stands for a program that runs for ``code`` seconds."""
    try:
        await asyncio.sleep(float(code))
    except asyncio.CancelledError:
        stopped.append(eval_id)
        raise
    return {"verdict": "ok", "status": "completed", "eval_id": eval_id}


async def submit(client: aiohttp.ClientSession, eval_id: str, code: str = "60") -> None:
    async with client.post("/api/eval", json={"code": code, "eval_id": eval_id}) as response:
        assert response.status == 202


async def delete(client: aiohttp.ClientSession, eval_id: str) -> tuple[int, dict[str, Any]]:
    async with client.delete(f"/api/eval/{eval_id}") as response:
        return response.status, await response.json()


async def show(client: aiohttp.ClientSession, eval_id: str) -> dict[str, Any]:
    async with client.get(f"/api/eval/{eval_id}") as response:
        view: dict[str, Any] = await response.json()
        return view


async def test_a_queued_evaluation_is_cancelled_without_any_worker(
    redis_url: str, redis: Redis
) -> None:
    """It is cancelled at once, and a worker that starts later drops it unrun."""
    async with running_api(redis_url) as client:
        await submit(client, "queued", "0")
        status, view = await delete(client, "queued")
        assert (status, view["status"], view["verdict"]) == (200, "cancelled", "cancelled")
        assert view["finished_at"] is not None
        again = await delete(client, "queued")
        assert again == (200, view)
        async with Worker(registry, broker_url=redis_url, queues=("evaluation",)) as worker:
            async with asyncio.timeout(60):
                while await redis.llen("evaluation\x06\x163") or await redis.hlen("unacked"):
                    await asyncio.sleep(0.01)
            assert worker.node.task_events.totals.total() == 0
        assert await show(client, "queued") == view


async def test_a_running_evaluation_is_stopped(redis_url: str) -> None:
    """Its task is cancelled in the worker, and the answer tells its end."""
    async with (
        running_api(redis_url) as client,
        Worker(registry, broker_url=redis_url, queues=("evaluation",)),
    ):
        await submit(client, "running")
        async with asyncio.timeout(60):
            while (await show(client, "running"))["status"] != "running":
                await asyncio.sleep(0.01)
        status, view = await delete(client, "running")
        assert (status, view["status"], view["verdict"]) == (200, "cancelled", "cancelled")
        assert stopped == ["running"]


@pytest.mark.parametrize("claim", ["atomic", "brpop"])
async def test_what_was_written_before_the_start_was_stored_is_kept(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, claim: Literal["atomic", "brpop"]
) -> None:
    """The api sees no start, so that it has ended for the api; its worker knows more."""
    monkeypatch.setattr("crucible.worker.settlement_writer._PATIENCE_S", 3600.0)
    writing = asyncio.Event()
    leaving = TaskRegistry()

    @leaving.task("tasks.evaluate_code", track_started=True)
    async def evaluate(ctx: TaskContext, eval_id: str, code: str, language: str, **_: Any) -> Any:
        writing.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcome = Outcome(verdict=Verdict.CANCELLED, stdout=b"so far")
            now, name = now_text(), ctx.hostname
            left = result_of(
                eval_id, outcome, worker=name, retry_count=0, started_at=now, finished_at=now
            )
            ctx.leave(plain(left))
            raise

    async with (
        running_api(redis_url, claim=claim) as client,
        Worker(leaving, broker_url=redis_url, queues=("evaluation",), claim=claim),
    ):
        await submit(client, "young")
        async with asyncio.timeout(PATIENCE_S):
            await writing.wait()
        assert (await show(client, "young"))["status"] == "queued"
        status, view = await delete(client, "young")
        assert (status, view["status"]) == (200, "cancelled")
        async with asyncio.timeout(PATIENCE_S):
            while (view := await show(client, "young"))["output"] != "so far":
                await asyncio.sleep(0.01)
        assert (view["status"], view["verdict"]) == ("cancelled", "cancelled")
        assert view["worker"] is not None
        # Asking again changes nothing.
        assert await delete(client, "young") == (200, view)


async def test_what_ended_keeps_its_end(redis_url: str) -> None:
    """Cancelling an evaluation that completed answers with that, and changes nothing."""
    async with (
        running_api(redis_url) as client,
        Worker(registry, broker_url=redis_url, queues=("evaluation",)),
    ):
        await submit(client, "done", "0")
        async with client.get("/api/eval/done", params={"wait": "10"}) as response:
            ended = await response.json()
        assert ended["status"] == "completed"
        assert await delete(client, "done") == (200, ended)


async def test_cancelling_the_unknown_is_a_404(redis_url: str) -> None:
    """An id nobody submitted is not made up by cancelling it."""
    async with running_api(redis_url) as client:
        status, problem = await delete(client, "nobody")
        assert (status, problem["status"]) == (404, 404)
        async with client.get("/api/eval/nobody") as response:
            assert response.status == 404


async def test_the_command_cancels(redis_url: str) -> None:
    """``crucible cancel`` says what became of it, and exits 1 when there was nothing to do."""
    async with running_api(redis_url) as client:
        await submit(client, "by-command")
        url = str(client._base_url)
        async with crucible(["cancel", "by-command", "--url", url]) as command:
            assert await command.wait() == 0
            await command.wait_for_log("^cancelled$")
        async with crucible(["cancel", "nobody", "--url", url]) as command:
            assert await command.wait() == 1
            await command.wait_for_log("no evaluation has the id")


async def test_a_revocation_without_listeners_is_kept(redis_url: str, redis: Redis) -> None:
    """Revoked ids outlive all workers, bounded in age and number."""
    async with ControlClient.connect(redis_url) as control:
        assert await control.revoke(["kept"]) == 0
    assert 0 < await redis.ttl("crucible:revoked") <= 10_800
    assert await redis.zcard("crucible:revoked") == 1
    async with Worker(registry, broker_url=redis_url) as worker:
        assert "kept" in worker.node.revocations.ids


@pytest.mark.parametrize("claim", ["atomic", "brpop"])
async def test_revoked_ids_are_bounded(redis_url: str, redis: Redis, claim: str) -> None:
    """Of more ids than are kept the newest stay, and what is too old is dropped."""
    await redis.zadd("crucible:revoked", {"ancient": 1.0})
    async with ControlClient.connect(redis_url, scripting=claim == "atomic") as control:
        kept: RevokedKey = control._revoked
        await kept.add([f"id-{number}" for number in range(50_100)])
        await kept.add(["newest"])
        ids = await kept.load()
    assert len(ids) == 50_000
    assert ids[-1] == "newest" or "newest" in ids
    assert "ancient" not in ids

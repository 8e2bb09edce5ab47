"""Running evaluations again, cancelling many, and whose dead letters are whose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import queued, running_api
from support.migration_rig import celery_worker, submit

from crucible.api import callers
from crucible.broker.wire.decode import decode
from crucible.identity.principal import Principal

if TYPE_CHECKING:
    import aiohttp
    from redis.asyncio import Redis

ALICE = Principal("k1", "alice", frozenset({"submit", "read"}))
BOB = Principal("k2", "bob", frozenset({"submit", "read"}))


async def ask(
    client: aiohttp.ClientSession, method: str, path: str, **headers: str
) -> tuple[int, dict[str, Any]]:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, path, headers=fields) as response:
        return response.status, await response.json()


async def test_a_retry_is_a_new_evaluation_with_the_same_content(redis_url: str) -> None:
    """Everything that was asked for is asked for again, and it says what it repeats."""
    asked: dict[str, Any] = {
        "code": "import sys; print(input(), *sys.argv[1:]); sys.exit(3)",
        "stdin": "in",
        "args": ["a"],
        "priority": 8,
        "limits": {"wall_time_s": 7},
        "metadata": {"k": 1},
    }
    async with running_api(redis_url) as client, celery_worker(redis_url):
        await submit(client, **asked, eval_id="first")
        _, first = await ask(client, "GET", "/api/eval/first?wait=20")
        status, accepted = await ask(client, "POST", "/api/eval/first/retry", Idempotency_Key="k")
        assert (status, accepted["retry_of"]) == (202, "first")
        new = accepted["eval_id"]
        assert new != "first"
        _, second = await ask(client, "GET", f"/api/eval/{new}?wait=20")
        same = ("output", "exit_code", "queue", "metadata", "language", "verdict")
        assert [second[name] for name in same] == [first[name] for name in same]
        assert (second["retry_of"], second["output"]) == ("first", "in a\n")
        assert "retry_of" not in first
        status, again = await ask(client, "POST", "/api/eval/first/retry", Idempotency_Key="k")
        assert (status, again["eval_id"]) == (200, new)
        _, third = await ask(client, "POST", f"/api/eval/{new}/retry")
        assert third["retry_of"] == new


async def test_what_cannot_be_retried_says_why(redis_url: str) -> None:
    """Unknown, not ended, or not kept."""
    async with running_api(redis_url) as client:
        await submit(client, "1", eval_id="waits")
        await submit(client, "1", eval_id="gone")
        assert (await ask(client, "POST", "/api/eval/nobody/retry"))[0] == 404
        assert (await ask(client, "POST", "/api/eval/waits/retry"))[0] == 409
        await ask(client, "DELETE", "/api/eval/gone")
        assert (await ask(client, "POST", "/api/eval/gone/retry"))[0] == 410
        async with celery_worker(redis_url):
            await submit(client, f"print(1) # {'x' * 20_000}", eval_id="large")
            await ask(client, "GET", "/api/eval/large?wait=20")
            status, problem = await ask(client, "POST", "/api/eval/large/retry")
            assert (status, "16 KiB" in problem["detail"]) == (410, True)


async def test_a_dead_letter_has_the_content(redis_url: str, redis: Redis) -> None:
    """Of what never had a result of its own."""
    async with running_api(redis_url) as client:
        await submit(client, "print(5)", eval_id="lost", args=["a"])
        [raw] = await queued(redis)
        await redis.delete("evaluation\x06\x163")
        letter: Any = {"raw": raw, "queue": "evaluation", "reason": "undeliverable"}
        await redis.xadd("crucible:dlq", {**letter, "task_id": "eval-lost"})
        await ask(client, "DELETE", "/api/eval/lost")
        assert (await ask(client, "POST", "/api/eval/lost/retry"))[0] == 202
        [again] = [decode(raw) for raw in await queued(redis)]
        assert (again.args[1], again.kwargs) == ("print(5)", {"args": ["a"]})


async def test_what_matches_is_cancelled_and_nothing_else(redis_url: str) -> None:
    """By status, queue and time; page by page; twice does no harm."""
    async with running_api(redis_url) as client:
        for n in range(3):
            await submit(client, "1", eval_id=f"b{n}", priority=1)
            await submit(client, "1", eval_id=f"e{n}")
        await submit(client, "1", eval_id="js", language="javascript")
        await submit(client, "1", eval_id="m1", metadata={"run": "r1", "note": "some word"})
        await submit(client, "1", eval_id="m2")
        assert (await ask(client, "DELETE", "/api/eval"))[0] == 422
        assert (await ask(client, "DELETE", "/api/eval?status=done"))[0] == 422
        assert (await ask(client, "DELETE", "/api/eval?tenant=local"))[0] == 422
        assert (await ask(client, "DELETE", "/api/eval?since=never"))[0] == 422
        for query, count in (
            ("status=running", 0),
            ("status=completed,failed", 0),
            ("verdict=ok", 0),
            ("metadata.run=r2", 0),
            ("metadata.run=r1&q=e9", 0),
            ("metadata.run=r1&q=Some+word", 1),
            ("q=m2", 1),
            ("since=4000-01-01T00:00:00Z", 0),
            ("until=1000", 0),
            ("queue=batch", 3),
            ("queue=batch", 0),
            ("language=javascript&status=queued", 1),
        ):
            _, answer = await ask(client, "DELETE", f"/api/eval?{query}")
            assert (query, answer) == (query, {"cancelled": count, "cursor": None})
        left = {}
        for name in ("b0", "b1", "b2", "e0", "e1", "e2", "js"):
            left[name] = (await ask(client, "GET", f"/api/eval/{name}"))[1]["status"]
        assert {name for name, status in left.items() if status == "queued"} == {"e0", "e1", "e2"}


async def test_a_long_queue_is_cancelled_call_by_call(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call looks at a bounded part, and says where to go on."""
    monkeypatch.setattr("crucible.evaluation.cancellation._PARTS", 2)
    items = [{"code": "1"}] * 700
    async with running_api(redis_url) as client:
        async with client.post("/api/eval/batch", json=items) as response:
            assert response.status == 202
        total, calls = 0, 0
        cursor: str | None = ""
        while cursor is not None:
            path = f"/api/eval?status=queued{cursor and f'&cursor={cursor}'}"
            status, answer = await ask(client, "DELETE", path)
            assert status == 200
            total, calls, cursor = total + answer["cancelled"], calls + 1, answer["cursor"]
        assert (total, calls > 2) == (700, True)
        first = (await ask(client, "DELETE", "/api/eval?status=queued"))[1]["cursor"]
        assert (await ask(client, "DELETE", f"/api/eval?queue=batch&cursor={first}"))[0] == 422


async def test_tenants_have_no_part_in_one_another(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither to retry, nor to cancel, nor to list, nor to see dead letters of."""
    async with running_api(redis_url, direct=False) as client:
        monkeypatch.setattr(callers, "LOCAL", ALICE)
        await submit(client, "1", eval_id="e")
        [raw] = await queued(redis)
        for task_id in (b"eval-alice:e", b"eval-bob:e", b"somebodys"):
            letter: Any = {"raw": raw, "queue": "q", "reason": "failed", "task_id": task_id}
            letter_id: Any = await redis.xadd("crucible:dlq", letter)
        _, page = await ask(client, "GET", "/api/v1/dlq?limit=2")
        assert [one["task_id"] for one in page["dead_letters"]] == ["eval-alice:e"]
        own = page["dead_letters"][0]["id"]
        assert (await ask(client, "GET", f"/api/v1/dlq/{letter_id.decode()}"))[0] == 404
        monkeypatch.setattr(callers, "LOCAL", BOB)
        for method, path in (
            ("POST", "/api/eval/e/retry"),
            ("GET", "/tasks/eval-e"),
            ("GET", "/tasks/eval-alice:e/result"),
            ("DELETE", "/tasks/eval-e"),
            ("GET", "/tasks/somebodys"),
            ("DELETE", "/tasks/somebodys"),
            ("DELETE", f"/api/v1/dlq/{own}"),
            ("POST", f"/api/v1/dlq/{own}/replay"),
        ):
            assert ((method, path), (await ask(client, method, path))[0]) == ((method, path), 404)
        assert (await ask(client, "GET", "/tasks"))[1]["tasks"] == []
        assert (await ask(client, "DELETE", "/api/eval?status=queued"))[1]["cancelled"] == 0
        monkeypatch.setattr(callers, "LOCAL", ALICE)
        [task] = (await ask(client, "GET", "/tasks"))[1]["tasks"]
        assert (task["task_id"], task["eval_id"]) == ("eval-e", "e")
        assert (await ask(client, "DELETE", "/api/eval?status=queued"))[1]["cancelled"] == 1

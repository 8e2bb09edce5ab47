"""What the console asks the API for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.api_rig import queued, running_api
from support.keyed import make_key
from support.migration_rig import both_sides, celery_worker, completed, submit

if TYPE_CHECKING:
    import aiohttp
    from redis.asyncio import Redis


async def read(client: aiohttp.ClientSession, path: str, **headers: str) -> Any:
    """The JSON of an answer; asserts that it is a success."""
    async with client.get(path, headers=headers) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_the_caller_learns_who_it_is(redis_url: str) -> None:
    """Without keys it is the machine itself; with one, its tenant, tier and scopes."""
    async with running_api(redis_url) as client:
        me = await read(client, "/api/v1/me")
        assert (me["tenant"], me["keyed"], me["tier"]) == ("local", False, None)
        assert me["scopes"] == ["admin", "read", "submit"]
        assert (me["history"], me["events"], me["legacy"], me["flower"]) == (
            False, True, False, False,
        )  # fmt: skip
    key = await make_key(redis_url, "acme", "read", tier="bulk")
    async with running_api(redis_url, flower_url="http://127.0.0.1:5555") as client:
        me = await read(client, "/api/v1/me", **key.headers)
        assert (me["tenant"], me["keyed"], me["tier"]) == ("acme", True, "bulk")
        assert (me["scopes"], me["key_id"], me["flower"]) == (["read"], key.id, True)


async def test_without_a_flower_there_is_none(redis_url: str) -> None:
    """Nothing is out of order and nothing comes of trying again, so it is no 503."""
    async with running_api(redis_url) as client:
        for path in ("/flower/", "/flower/workers"):
            async with client.get(path) as response:
                assert response.status == 404
                assert "CRUCIBLE_FLOWER_URL" in await response.text()


async def test_what_an_evaluation_ran_can_be_read_once_it_has_ended(redis_url: str) -> None:
    """With everything that came with it; before, it is a 409."""
    body: dict[str, Any] = {
        "code": "print(input())",
        "stdin": "x",
        "metadata": {"a": 1},
        "priority": 4,
    }
    async with running_api(redis_url) as client:
        await submit(client, eval_id="e", **body)
        async with client.get("/api/eval/e/request") as response:
            assert response.status == 409
        async with celery_worker(redis_url):
            await completed(client, "e")
        asked = await read(client, "/api/eval/e/request")
        assert {name: asked[name] for name in body} == body
        async with client.get("/api/eval/nobody/request") as response:
            assert response.status == 404


async def test_a_purge_ends_what_waits(redis_url: str, redis: Redis) -> None:
    """Its evaluations are cancelled, those of other queues are left alone."""
    async with running_api(redis_url) as client:
        for number in range(3):
            await submit(client, "1", eval_id=f"bulk-{number}", priority=1)
        await submit(client, "1", eval_id="kept")
        async with client.post("/api/v1/queues/batch/purge") as response:
            assert await response.json() == {"queue": "batch", "dropped": 3}
        assert len(await queued(redis)) == 1
        assert (await read(client, "/api/eval/bulk-0"))["status"] == "cancelled"
        async with client.post("/api/v1/queues/nobodys/purge") as response:
            assert response.status == 404


async def test_samples_have_what_waits_and_what_has_ended(redis_url: str) -> None:
    """The last one is taken with the request."""
    async with running_api(redis_url) as client:
        await submit(client, "1", eval_id="waits")
        recent = await read(client, "/api/v1/queues/recent")
        (*_, now) = recent["samples"]
        assert now["waiting"]["evaluation"] == 1
        assert (now["ended"], now["failed"]) == (0, 0)
        assert recent["oldest_age_s"]["evaluation"] >= 0


async def test_a_worker_says_what_it_runs(redis_url: str) -> None:
    """The task and since when, and what the worker measures."""
    async with running_api(redis_url) as client, celery_worker(redis_url):
        await submit(
            client, "input_ = open('/dev/null')\nimport time\ntime.sleep(30)", eval_id="on"
        )
        running: list[dict[str, Any]] = []
        while not running:
            (worker,) = (await read(client, "/api/v1/workers"))["workers"]
            running = worker["running"]
        assert running[0]["id"] == "eval-on"
        assert running[0]["name"] == "tasks.evaluate_code"
        assert (worker["kind"], worker["active"]) == ("async", 1)
        async with client.delete("/api/eval/on") as response:
            assert response.status in (200, 202)


async def test_both_sides_of_a_migration_are_counted(redis_url: str) -> None:
    """Completions and their durations, by queue system."""
    async with both_sides(redis_url, celery_percentage=0.0) as (client, _):
        await submit(client, "print(1)", eval_id="one")
        await completed(client, "one")
        found: dict[str, Any] = {}
        while "legacy" not in found:
            found = (await read(client, "/api/v1/migration/sides"))["sides"]
        assert found["legacy"]["statuses"] == {"completed": 1}
        bound, number = found["legacy"]["durations"][-1]
        assert (bound, number) == ("+Inf", 1)

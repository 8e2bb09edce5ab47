from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import aiohttp
import msgspec
import pytest
from redis.asyncio import Redis
from support.api_rig import port_of, queued, running_api
from support.patience import PATIENCE_S

from crucible.api.dead_letters import LetterPage
from crucible.broker.wire.decode import decode
from crucible.embedded.server import EmbeddedServer
from crucible.errors import RequirementError, SettingsError
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker


async def test_a_202_means_the_message_is_in_its_list(redis_url: str, redis: Redis) -> None:
    """Once the client has its answer, Redis has the task, in the list of its priority."""
    async with running_api(redis_url) as client:
        body = {"code": "print(6*7)", "eval_id": "e1", "args": ["a"], "priority": 4}
        async with client.post("/api/eval", json=body) as response:
            assert response.status == 202
            accepted = await response.json()
            assert response.headers["Location"] == accepted["href"]
    assert accepted == {
        "eval_id": "e1",
        "task_id": "eval-e1",
        "status": "queued",
        "queue": "evaluation",
        "queue_system": "celery",
        "href": "/api/eval/e1",
    }
    [raw] = await queued(redis)
    assert await redis.llen("evaluation\x06\x163") == 1
    message = decode(raw)
    assert (message.id, message.task, message.queue) == (
        "eval-e1",
        "tasks.evaluate_code",
        "evaluation",
    )
    assert message.priority == 5
    assert (message.args, message.kwargs) == (["e1", "print(6*7)", "python"], {"args": ["a"]})


@pytest.mark.parametrize(
    ("priority", "key"),
    [
        (9, "high_priority"),
        (7, "high_priority"),
        (6, "evaluation\x06\x163"),
        (3, "evaluation\x06\x166"),
        (2, "batch\x06\x166"),
        (0, "batch\x06\x169"),
    ],
)
async def test_priority_chooses_queue_and_step(
    redis_url: str, redis: Redis, priority: int, key: str
) -> None:
    """9 is the most urgent for users, the lowest step on Redis."""
    async with running_api(redis_url) as client:
        async with client.post("/api/eval", json={"code": "x", "priority": priority}) as response:
            assert response.status == 202
    assert await redis.llen(key) == 1


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, "body"),
        (b"{", 400, "body"),
        (b"\xff", 400, "body"),
        (b"[]", 400, "body"),
        (b"{}", 422, "code"),
        (b'{"code":""}', 422, "code"),
        (b'{"code":5}', 422, "code"),
        (b'{"code":"x","language":"cobol"}', 422, "language"),
        (b'{"code":"x","limits":{"memory_mb":-1}}', 422, "limits.memory_mb"),
        (b'{"code":"x","limits":{"wall_time_s":1e308}}', 422, "limits.wall_time_s"),
        (b'{"code":"x","limits":{"wall_time_s":NaN}}', 422, "limits.wall_time_s"),
        (b'{"code":"x","isolation":"shared"}', 422, "isolation"),
        (b'{"code":"x","isolation":7}', 422, "isolation"),
        (b'{"code":"x","eval_id":"a/b"}', 422, "eval_id"),
        (b'{"code":"' + b"x" * 3_000_000 + b'"}', 413, "body"),
        (b'{"code":"x","args":' + json.dumps(["a"] * 100_000).encode() + b"}", 422, "args"),
        (b"[" * 100_000, 400, "body"),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else None,
)
async def test_bad_input_is_a_problem_that_names_the_field_and_queues_nothing(
    redis_url: str, redis: Redis, body: bytes, status: int, field: str
) -> None:
    """Every unusable body is a 4xx problem document, and Redis stays empty."""
    headers = {"Content-Type": "application/json"}
    async with running_api(redis_url) as client:
        async with client.post("/api/eval", data=io.BytesIO(body), headers=headers) as response:
            problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["status"]) == (status, status)
            assert problem["field"] == field
            assert problem["detail"]
    assert await redis.keys("*") == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/eval/nobody", 404),
        ("GET", "/api/eval/nobody?wait=5", 404),
        ("GET", "/api/eval/nobody?wait=nan", 422),
        ("GET", "/api/eval/nobody?wait=-1", 422),
        ("GET", "/api/eval/nobody?wait=x", 422),
        ("GET", "/nowhere", 404),
        ("PUT", "/api/eval", 405),
        ("DELETE", "/health", 405),
        ("GET", "/api/eval/%00%ff", 404),
    ],
)
async def test_whatever_cannot_be_answered_is_a_problem_document(
    redis_url: str, method: str, path: str, status: int
) -> None:
    """Unknown ids, paths and methods get problem+json like everything else."""
    async with running_api(redis_url) as client, client.request(method, path) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"


async def test_a_body_that_is_not_sent_as_json_is_refused(redis_url: str, redis: Redis) -> None:
    """A web page cannot make a visitor's browser submit programs to loopback."""
    async with running_api(redis_url) as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            async with client.post(
                "/api/eval", data=b'{"code":"x"}', headers={"Content-Type": kind}
            ) as response:
                assert response.status == 415
    assert await queued(redis) == []


async def test_the_same_id_again_returns_the_first(redis_url: str, redis: Redis) -> None:
    """A repeated submission is answered with the first evaluation and queues nothing."""
    async with running_api(redis_url) as client:
        body = {"code": "x", "eval_id": "e1", "metadata": {"k": 1}}
        async with client.post("/api/eval", json=body) as response:
            assert response.status == 202
        async with client.post("/api/eval", json=body) as response:
            assert response.status == 200
            again = await response.json()
        async with client.post("/api/eval", json={**body, "code": "y"}) as response:
            assert response.status == 409
            assert (await response.json(content_type=None))["field"] == "eval_id"
    assert (again["eval_id"], again["status"], again["metadata"]) == ("e1", "queued", {"k": 1})
    assert len(await queued(redis)) == 1


async def test_an_idempotency_key_works_like_an_id(redis_url: str, redis: Redis) -> None:
    """The same key gives the same evaluation, another one another."""
    ids = []
    async with running_api(redis_url) as client:
        for key in ("k", "k", "other"):
            async with client.post(
                "/api/eval", json={"code": "x"}, headers={"Idempotency-Key": key}
            ) as response:
                ids.append((await response.json())["eval_id"])
        async with client.post(
            "/api/eval", json={"code": "y"}, headers={"Idempotency-Key": "k"}
        ) as response:
            assert response.status == 409
            assert (await response.json(content_type=None))["field"] == "Idempotency-Key"
    assert ids[0] == ids[1] != ids[2]
    assert len(await queued(redis)) == 2


async def test_many_at_once_with_one_id_are_one_evaluation(redis_url: str, redis: Redis) -> None:
    """A hundred racing submissions of the same id leave exactly one message."""
    async with running_api(redis_url) as client:

        async def submit() -> int:
            async with client.post("/api/eval", json={"code": "x", "eval_id": "e1"}) as response:
                return response.status

        statuses = await asyncio.gather(*(submit() for _ in range(100)))
    assert sorted(set(statuses)) == [200, 202]
    assert statuses.count(202) == 1
    assert len(await queued(redis)) == 1


async def test_a_full_queue_is_refused_and_says_how_full(redis_url: str, redis: Redis) -> None:
    """Beyond its limit a queue does not grow; other queues still take work."""
    async with running_api(redis_url, queue_limit=3) as client:
        for expected in (202, 202, 202, 503, 503):
            async with client.post("/api/eval", json={"code": "x"}) as response:
                assert response.status == expected
                if expected == 503:
                    assert int(response.headers["Retry-After"]) > 0
                    problem = await response.json(content_type=None)
                    assert (problem["queue"], problem["depth"]) == ("evaluation", 3)
        async with client.post("/api/eval", json={"code": "x", "priority": 9}) as response:
            assert response.status == 202
    assert len(await queued(redis)) == 4


async def test_a_server_that_is_gone_is_a_503_within_a_deadline_and_then_forgotten(
    tmp_path: Any,
) -> None:
    """Redis down: a quick 503 with Retry-After; Redis back: service resumes by itself."""
    async with EmbeddedServer(tmp_path / "a") as server:
        port = server.port
        async with running_api(server.url, publish_deadline_s=1.5) as client:
            await _expect(client, 202)
            await server.__aexit__(None, None, None)
            for path in ("/api/eval", "/api/eval"):
                async with (
                    asyncio.timeout(PATIENCE_S),
                    client.post(path, json={"code": "x"}) as response,
                ):
                    assert response.status == 503
                    assert "Retry-After" in response.headers
            async with client.get("/api/eval/e") as response:
                assert response.status == 503
            async with client.get("/ready") as response:
                assert response.status == 503
                report = await response.json()
                assert not report["dependencies"]["queue"]["ok"]
            async with client.get("/health") as response:
                assert response.status == 200
            async with EmbeddedServer(tmp_path / "a", port):
                await _expect(client, 202)


async def _expect(client: aiohttp.ClientSession, status: int) -> None:
    async with client.post("/api/eval", json={"code": "x"}) as response:
        assert response.status == status


async def test_waiting_without_a_worker_ends_with_a_202(redis_url: str) -> None:
    """A wait that runs out is no error: the evaluation stays queued."""
    async with running_api(redis_url) as client:
        async with client.post("/api/eval?wait=0.1", json={"code": "x"}) as response:
            assert response.status == 202
            href = (await response.json())["href"]
        async with client.get(href, params={"wait": "0.1"}) as response:
            assert (response.status, (await response.json())["status"]) == (200, "queued")


async def test_the_service_describes_itself(redis_url: str) -> None:
    """Languages, health, readiness, OpenAPI and the page for people answer."""
    async with running_api(redis_url) as client:
        async with client.get("/api/languages") as response:
            names = {language["name"] for language in await response.json()}
            assert {"python", "javascript", "bash"} <= names
        async with client.get("/health") as response:
            assert (await response.json())["status"] == "ok"
        async with client.get("/ready") as response:
            report = await response.json()
            assert (response.status, report["ready"], report["celery"]) == (200, True, "enabled")
        async with client.get("/openapi.json") as response:
            document = await response.json()
            assert document["openapi"].startswith("3.1")
            assert "/api/eval/{eval_id}" in document["paths"]
        async with client.get("/docs") as response:
            assert "/openapi.json" in await response.text()


async def test_dead_letters_and_queues_can_be_looked_after_over_http(
    redis_url: str, redis: Redis
) -> None:
    """Garbage becomes a dead letter that is listed, shown, refused for replay and deleted."""
    await redis.lpush("celery", b"\xffgarbage")
    async with Worker(TaskRegistry(), broker_url=redis_url, queues=["celery"]):
        async with asyncio.timeout(60):
            while not await redis.exists("crucible:dlq"):
                await asyncio.sleep(0.02)
    async with running_api(redis_url) as client:
        await _expect(client, 202)
        async with client.get("/api/v1/queues") as response:
            census = await response.json()
        async with client.get("/api/v1/dlq", params={"limit": "1"}) as response:
            page = await response.json()
        [letter] = page["dead_letters"]
        async with client.get("/api/v1/dlq", params={"before": page["before"]}) as response:
            assert (await response.json())["dead_letters"] == []
        path = f"/api/v1/dlq/{letter['id']}"
        async with client.get(path) as response:
            assert await response.json() == letter
        # As described: see ``openapi``.
        assert msgspec.convert(page, LetterPage).dead_letters[0].attempts is None
        assert letter["at"] == pytest.approx(int(letter["id"].partition("-")[0]) / 1000, abs=60)
        async with client.post(f"{path}/replay") as response:
            assert response.status == 422
        for status in (204, 404):
            async with client.delete(path) as response:
                assert response.status == status
    assert census["dead_letters"] == 1
    assert next(q["waiting"] for q in census["queues"] if q["name"] == "evaluation") == 1
    assert letter["message"].endswith("garbage")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/dlq?limit=0", 422),
        ("/api/v1/dlq?limit=x", 422),
        ("/api/v1/dlq?limit=" + "9" * 5000, 422),
        ("/api/v1/dlq?limit=%D9%A3", 422),
        ("/api/v1/migration/mismatches?limit=" + "9" * 5000, 422),
        ("/api/v1/migration/mismatches?limit=%D9%A3", 422),
        ("/api/v1/dlq?before=x", 422),
        ("/api/v1/dlq?before=0-0", 422),
        ("/api/v1/dlq/0-0", 404),
        ("/api/v1/dlq/nosuch", 404),
        ("/api/v1/dlq/1-1", 404),
    ],
)
async def test_bad_questions_of_operators_are_problems(
    redis_url: str, path: str, status: int
) -> None:
    """Wrong numbers and unknown ids are the client's errors."""
    async with running_api(redis_url) as client, client.get(path) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"


async def test_a_taken_port_is_one_clear_error(redis_url: str) -> None:
    """The second service on a port says which port is taken."""
    async with running_api(redis_url) as client:
        port = port_of(client)
        with pytest.raises(RequirementError, match=f"port {port}"):
            async with running_api(redis_url, port=port):
                pass


async def test_no_address_but_loopback_is_served(redis_url: str) -> None:
    """Without keys the service does not listen where others could reach it."""
    with pytest.raises(SettingsError, match="CRUCIBLE_HOST"):
        async with running_api(redis_url, host="0.0.0.0"):
            pass

"""``POST /api/eval/batch``: many programs in one request, each with an outcome of its own."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import queued, running_api
from support.faults import Fault, FaultProxy
from support.held import Held
from support.patience import PATIENCE_S

from crucible.api import batch
from crucible.api.batch import MAX_BYTES, MAX_ITEMS
from crucible.broker.wire.decode import decode
from crucible.errors import NothingStored
from crucible.evaluation.celery_service import CeleryService
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    import aiohttp
    from redis.asyncio import Redis

    from crucible.embedded.server import EmbeddedServer

NDJSON = "application/x-ndjson"


@pytest.fixture
def held() -> Held:
    """Tasks of the running test."""
    return Held()


async def post(
    client: aiohttp.ClientSession,
    items: Any,
    *,
    query: str = "",
    kind: str = "application/json",
    **headers: str,
) -> tuple[int, Any]:
    data = items if isinstance(items, bytes) else json.dumps(items).encode()
    fields = {"Content-Type": kind, **{name.replace("_", "-"): v for name, v in headers.items()}}
    async with client.post(f"/api/eval/batch{query}", data=data, headers=fields) as response:
        text = await response.text()
        if response.content_type == NDJSON:
            return response.status, [json.loads(line) for line in text.splitlines()]
        return response.status, json.loads(text)


async def test_each_item_has_its_outcome_in_order(redis_url: str, redis: Redis) -> None:
    """Bad items hurt only themselves; what is wrong with one is said as for one request."""
    items = [
        {"code": "1", "eval_id": "a", "custom_id": "mine"},
        {"code": "", "custom_id": "empty"},
        {"code": "1", "limits": {"pids": 0}},
        7,
        {"code": "2", "eval_id": "a"},
        {"code": "3", "priority": 9},
    ]
    async with running_api(redis_url) as client:
        status, answer = await post(client, items)
    assert status == 202
    assert answer["request_counts"] == {"total": 6, "accepted": 2, "rejected": 4}
    first, empty, limits, number, conflict, last = answer["items"]
    assert first == {
        "eval_id": "a",
        "task_id": "eval-a",
        "status": "queued",
        "queue": "evaluation",
        "queue_system": "celery",
        "href": "/api/eval/a",
        "custom_id": "mine",
    }
    assert (empty["status"], empty["custom_id"]) == ("rejected", "empty")
    [wrong] = limits["error"]["errors"]
    assert (wrong["pointer"], bool(wrong["detail"])) == ("#/limits/pids", True)
    assert number["error"]["status"] == 400
    assert conflict["error"]["status"] == 409
    assert (last["status"], last["queue"]) == ("queued", "high_priority")
    messages = [decode(raw) for raw in await queued(redis)]
    assert {message.args[1] for message in messages} == {"1", "3"}


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("lines", [False, True])
async def test_ten_thousand_are_queued_in_their_order(
    redis_url: str, redis: Redis, lines: bool, coding: str
) -> None:
    """Every one of them, once, in the order of the request."""
    items = [{"code": f"print({n})"} for n in range(MAX_ITEMS)]
    body = b"\n".join(json.dumps(one).encode() for one in items)
    kind = NDJSON if lines else "application/json"
    body = body if lines else b"[" + body.replace(b"\n", b",") + b"]"
    headers = {"Content_Encoding": coding} if coding else {}
    async with running_api(redis_url) as client:
        sent = gzip.compress(body) if coding else body
        status, answer = await post(client, sent, kind=kind, **headers)
    assert (status, answer["request_counts"]["accepted"]) == (202, MAX_ITEMS)
    stored: list[Any] = await redis.lrange("evaluation\x06\x163", 0, -1)
    messages = [decode(raw) for raw in reversed(stored)]
    assert [message.args[1] for message in messages] == [one["code"] for one in items]
    assert [message.id for message in messages] == [one["task_id"] for one in answer["items"]]


async def test_a_batch_is_idempotent_as_a_whole_and_by_item(redis_url: str, redis: Redis) -> None:
    """The same key, and the same ids, find the first ones; more is queued only where it is new."""
    items: list[dict[str, Any]] = [{"code": "1"}, {"code": "1"}, {"code": "2", "eval_id": "named"}]
    async with running_api(redis_url) as client:
        _, first = await post(client, items, Idempotency_Key="k")
        _, again = await post(client, items, Idempotency_Key="k")
        _, other = await post(client, items, Idempotency_Key="l")
        _, changed = await post(client, [{"code": "9"}], Idempotency_Key="k")
    assert again == first
    assert len({one["eval_id"] for one in first["items"] + other["items"]}) == 5
    assert changed["items"][0]["error"]["errors"][0]["field"] == "Idempotency-Key"
    assert len(await queued(redis)) == 5


async def test_too_many_items_queue_nothing(redis_url: str, redis: Redis) -> None:
    """413, also where the length of the body is not known before it has come."""
    async with running_api(redis_url) as client:
        status, _ = await post(client, [{"code": "1"}] * (MAX_ITEMS + 1))
        assert status == 413
        # The client sends less than it says, so nothing else can follow on the connection.
        headers = {
            "Content-Type": NDJSON,
            "Content-Length": str(MAX_BYTES + 1),
            "Connection": "close",
        }
        async with client.post("/api/eval/batch", headers=headers, data=b"x") as response:
            assert response.status == 413
        assert (await post(client, b'[{"code":"1"},'))[0] == 400
        assert (await post(client, b"{}"))[0] == 400
        assert (await post(client, [], kind="text/plain"))[0] == 415
        assert (await post(client, []))[1]["request_counts"]["total"] == 0
    assert await queued(redis) == []


async def test_a_large_batch_that_is_refused_says_what_it_queued(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch, held: Held
) -> None:
    """Beyond what is held, items are queued before the end of the body is known."""
    monkeypatch.setattr(batch, "HELD_BYTES", 1000)
    async with running_api(redis_url) as client:
        body = b"[" + b",".join([b'{"code":"1%b"}' % (b" " * 500)] * 1000) + b",}"
        status, problem = await post(client, body)
    queued_now = len(await queued(redis))
    assert status == 400
    assert problem["request_counts"]["accepted"] == queued_now
    assert len(problem["items"]) == queued_now > 0


async def test_an_item_too_large_for_one_request_is_too_large_here(redis_url: str) -> None:
    items = [{"code": "1"}, {"code": "#" * 70_000}, {"code": "2"}]
    async with running_api(redis_url, max_body_kb=64) as client:
        status, answer = await post(client, items)
    assert status == 202
    assert [one["status"] for one in answer["items"]] == ["queued", "rejected", "queued"]


async def test_a_full_queue_takes_what_it_has_room_for(redis_url: str) -> None:
    """The rest is told so; with room for none it is a 503 that can be tried again."""
    async with running_api(redis_url, queue_limit=3) as client:
        _, answer = await post(client, [{"code": "1"}] * 5)
        assert answer["request_counts"] == {"total": 5, "accepted": 3, "rejected": 2}
        assert answer["items"][4]["error"]["status"] == 503
        assert answer["items"][4]["error"]["retry_after"] >= 1
        status, problem = await post(client, [{"code": "1"}, {"code": ""}])
        assert (status, problem["status"]) == (503, 503)
        assert (problem["queue"], problem["depth"]) == ("evaluation", 3)
        assert [one["error"]["status"] for one in problem["items"]] == [503, 422]


async def test_a_server_that_is_away_refuses_the_batch(scratch_server: EmbeddedServer) -> None:
    async with FaultProxy("127.0.0.1", scratch_server.port) as proxy:
        async with running_api(proxy.url(), publish_deadline_s=0.5) as client:
            proxy.set(Fault.RESET)
            status, problem = await post(client, [{"code": "1"}] * 3)
    assert (status, problem["request_counts"]["rejected"]) == (503, 3)


async def test_what_the_server_never_got_is_sent_again(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment without the server costs no item; only those that were not sent are sent."""
    real, sizes = CeleryService.submit_many, []

    async def flaky(self: CeleryService, caller: Any, asked: Any, keys: Any) -> Any:
        sizes.append(len(asked))
        if len(sizes) > 1:
            return await real(self, caller, asked, keys)
        return [NothingStored("slow"), *await real(self, caller, asked[1:], keys[1:])]

    monkeypatch.setattr(CeleryService, "submit_many", flaky)
    async with running_api(redis_url) as client:
        _, answer = await post(client, [{"code": f"{n}", "eval_id": f"e{n}"} for n in range(3)])
    assert (answer["request_counts"]["accepted"], sizes) == (3, [3, 1])
    assert [one["eval_id"] for one in answer["items"]] == ["e0", "e1", "e2"]
    assert len(await queued(redis)) == 3


async def test_a_batch_leaves_nothing_to_the_garbage_collector(redis_url: str) -> None:
    """Its objects go with the request, instead of being memory until the collector runs."""
    items = [{"code": f"{n}"} for n in range(500)]
    async with running_api(redis_url) as client:
        await post(client, items)  # what only the first request makes
        gc.collect()
        gc.disable()
        try:
            status, _ = await post(client, items)
            left = gc.collect()
        finally:
            gc.enable()
    assert status == 202
    # The connection, the request and its tasks are a few hundred.
    assert left < len(items)


async def test_waiting_streams_each_as_it_ends(redis_url: str, held: Held) -> None:
    """One line an item with its index; the rejected come at once, the unfinished at the end."""
    items = [
        {"code": "hold", "custom_id": "h"},
        {"code": "1"},
        {"code": ""},
        {"code": "2", "custom_id": "two"},
    ]
    async with running_api(redis_url) as client:
        async with Worker(
            held.registry, broker_url=redis_url, queues=("evaluation",), concurrency=4
        ):
            async with client.post("/api/eval/batch?wait=60", json=items) as response:
                assert (response.status, response.content_type) == (200, NDJSON)
                lines = []
                async for line in response.content:
                    lines.append(json.loads(line))
                    if len(lines) == 3:
                        held.released.set()
        assert (lines[0]["index"], lines[3]["index"]) == (2, 0)
        ended = {line["index"]: line for line in lines if line["status"] == "completed"}
        assert {at: line["output"] for at, line in ended.items()} == {0: "hold", 1: "1", 3: "2"}
        assert (ended[3]["custom_id"], ended[0]["custom_id"]) == ("two", "h")
        _, late = await post(client, [{"code": "3"}], query="?wait=0.05")
        assert [(line["index"], line["status"]) for line in late] == [(0, "queued")]


async def test_hanging_up_cancels_the_waiting_only(redis_url: str, held: Held) -> None:
    """The evaluations run on, and the api waits for them no longer."""
    async with running_api(redis_url) as client:
        items = [{"code": "hold", "eval_id": f"e{n}"} for n in range(3)]
        async with Worker(
            held.registry, broker_url=redis_url, queues=("evaluation",), concurrency=4
        ):
            async with client.post("/api/eval/batch?wait=60", json=items) as response:
                assert response.status == 200
                response.close()
            await _until_nobody_waits()
            held.released.set()
            for one in items:
                async with client.get(f"/api/eval/{one['eval_id']}?wait=60") as response:
                    assert (await response.json())["status"] == "completed"


async def _until_nobody_waits() -> None:
    async with asyncio.timeout(PATIENCE_S):
        while any(_is_waiting(task) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.05)


def _is_waiting(task: asyncio.Task[Any]) -> bool:
    return "_Waiting.work" in repr(task.get_coro())

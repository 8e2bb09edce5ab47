"""Remote control of an async worker: what commands do, and what cannot hurt it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis
from support.fleet_rig import final_state, listening, send, stored, until
from support.fleet_tasks import gates, registry
from support.unhindered import unhindered_s
from support.worker_rig import START_S, async_worker

from crucible.broker.control.client import ControlClient
from crucible.broker.control.pidbox import MAX_REQUESTS
from crucible.worker.control.commands.machine import masked
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NODE = "async1@rig"


def make(url: str, **options: Any) -> Worker:
    options.setdefault("concurrency", 2)
    return Worker(registry, broker_url=url, name=NODE, drain_s=5.0, **options)


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[Worker]:
    async with make(redis_url) as worker:
        yield worker


@pytest.fixture
async def control(redis_url: str) -> AsyncIterator[ControlClient]:
    async with ControlClient.connect(redis_url) as control:
        yield control


async def ask(control: ControlClient, method: str, **arguments: Any) -> Any:
    """The worker's reply."""
    replies = await control.ask(method, arguments, destination=[NODE], timeout_s=60.0)
    return replies[NODE]


def message(body: Any, **changes: Any) -> str:
    """A control message around ``body``, which need not be JSON."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.dumps(
        {
            "body": base64.b64encode(text).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"clock": 1, "expires": 0},
            "properties": {"body_encoding": "base64", "delivery_tag": "x"},
            **changes,
        }
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        "not json",
        "[]",
        "null",
        "{}",
        '{"body": 7}',
        '{"body": "!!!", "properties": {"body_encoding": "base64"}}',
        '{"body": "e30=", "properties": 3, "headers": 4}',
        message(b"{"),
        message({}),
        message([]),
        message("ping"),
        message({"method": None}),
        message({"method": ["ping"]}),
        message({"method": "ping", "arguments": 7}),
        message({"method": "ping", "arguments": [1, 2]}),
        message({"method": "__class__"}),
        message({"method": "ping", "reply_to": "nowhere"}),
        message({"method": "ping", "reply_to": {"routing_key": 5}}),
        message({"method": "ping", "reply_to": {"exchange": "x", "routing_key": "nobody"}}),
        message({"method": "ping", "destination": 5}),
        message({"method": "ping", "destination": {"async1@rig": 1}}),
        message({"method": "ping", "pattern": "(", "matcher": "pcre"}),
        message({"method": "ping", "pattern": 5, "matcher": "glob"}),
        message({"method": "ping", "pattern": "*", "matcher": "magic"}),
        message({"method": "ping", "ticket": {"a": [1]}}),
        message({"method": "ping"}, headers={"clock": "late"}),
        message({"method": "ping"}, headers={"clock": None}),
        message({"method": "ping"}, headers=[1]),
        message({"method": "revoke", "arguments": {"task_id": 5}}),
        message({"method": "revoke", "arguments": {"task_id": [None, {}]}}),
        message({"method": "revoke", "arguments": {"task_id": "x", "terminate": 1, "signal": []}}),
        message({"method": "revoke_by_stamped_headers", "arguments": {"headers": 5}}),
        message({"method": "revoke_by_stamped_headers", "arguments": {"headers": {"a": {}}}}),
        message({"method": "hello", "arguments": {"from_node": [], "revoked": [5, None, {}]}}),
        message({"method": "hello", "arguments": {"from_node": "x", "revoked": 5}}),
        message({"method": "query_task", "arguments": {"ids": 5}}),
        message({"method": "registered", "arguments": {"taskinfoitems": [5, "__class__"]}}),
        message({"method": "rate_limit", "arguments": {"task_name": [], "rate_limit": {}}}),
        message(
            {"method": "rate_limit", "arguments": {"task_name": "rig.add", "rate_limit": "-1"}}
        ),
        message({"method": "time_limit", "arguments": {"task_name": "rig.add", "hard": "x"}}),
        message({"method": "pool_grow", "arguments": {"n": "many"}}),
        message({"method": "pool_grow", "arguments": {"n": 10**9}}),
        message({"method": "add_consumer", "arguments": {"queue": 5}}),
        message({"method": "add_consumer", "arguments": {"queue": ""}}),
        message({"method": "election", "arguments": {"id": "1", "topic": "t", "action": None}}),
        message({"method": "shutdown", "arguments": [1]}),
    ],
)
async def test_malformed_requests_do_no_harm(
    worker: Worker, control: ControlClient, redis: Redis, redis_url: str, raw: bytes | str
) -> None:
    """Whatever is published to it, the worker answers the next request and runs the next task."""
    db = redis_url.rpartition("/")[2]
    await until(lambda: redis.publish(f"/{db}.celery.pidbox", raw))
    assert await ask(control, "ping") == {"ok": "pong"}
    await send(redis, "rig.add", 1, 2, task_id="after")
    assert (await final_state(redis, "after"))["result"] == 3
    assert worker.node.clock.value < 1000


@pytest.mark.parametrize(
    "spoil",
    [
        ("SADD", "_kombu.binding.reply.celery.pidbox", "garbage", "a\x06\x16b", "\x06\x16" * 5),
        ("SET", "_kombu.binding.reply.celery.pidbox", "no set"),
        ("SET", "lost.reply.celery.pidbox", "no list"),
    ],
)
async def test_spoilt_reply_bindings_end_no_worker(
    worker: Worker, control: ControlClient, redis: Redis, redis_url: str, spoil: tuple[str, ...]
) -> None:
    """One reply that cannot be sent is one reply lost, however often it is asked for."""
    db = redis_url.rpartition("/")[2]
    await redis.sadd(
        "_kombu.binding.reply.celery.pidbox", "lost\x06\x16\x06\x16lost.reply.celery.pidbox"
    )
    if spoil[0] == "SET":
        await redis.delete(spoil[1])
    client: Any = redis
    await client.execute_command(*spoil)
    reply_to = {"exchange": "reply.celery.pidbox", "routing_key": "lost"}
    raw = message({"method": "ping", "ticket": "t", "reply_to": reply_to})
    for _ in range(12):
        await until(lambda: redis.publish(f"/{db}.celery.pidbox", raw))
    await redis.delete("_kombu.binding.reply.celery.pidbox")
    assert await ask(control, "ping") == {"ok": "pong"}
    assert "control" not in worker._supervisor.restarts


async def test_requests_reach_those_they_are_meant_for(
    worker: Worker, control: ControlClient, redis: Redis, redis_url: str
) -> None:
    """Destination wins over pattern; globs and regular expressions are matched as kombu does."""
    db = redis_url.rpartition("/")[2]
    await ask(control, "ping")
    for extra, meant in (
        ({}, True),
        ({"destination": [NODE]}, True),
        ({"destination": ["other@rig"], "pattern": "*", "matcher": "glob"}, False),
        ({"destination": []}, True),
        ({"pattern": "async*", "matcher": "glob"}, True),
        ({"pattern": "stock*", "matcher": "glob"}, False),
        ({"pattern": r"async\d@", "matcher": "pcre"}, True),
        ({"pattern": r"\d", "matcher": "pcre"}, False),
        ({"pattern": "stock*"}, True),
    ):
        worker.node.task_events.enabled = False
        await redis.publish(f"/{db}.celery.pidbox", message({"method": "enable_events", **extra}))
        await ask(control, "ping")
        assert worker.node.task_events.enabled is meant, extra


async def test_replies_go_only_to_clients_that_wait(
    worker: Worker, control: ControlClient, redis: Redis, redis_url: str
) -> None:
    """A client that left gets no list, and a list that nobody reads does not stay for ever."""
    db = redis_url.rpartition("/")[2]
    await ask(control, "ping")
    asked = {"method": "ping", "ticket": "t"}
    gone = {"exchange": "reply.celery.pidbox", "routing_key": "gone"}
    await redis.publish(f"/{db}.celery.pidbox", message({**asked, "reply_to": gone}))
    binding = "slow\x06\x16\x06\x16slow.reply.celery.pidbox"
    await redis.sadd("_kombu.binding.reply.celery.pidbox", binding)
    slow = {"exchange": "reply.celery.pidbox", "routing_key": "slow"}
    await redis.publish(f"/{db}.celery.pidbox", message({**asked, "reply_to": slow}))
    [reply] = await until(lambda: redis.lrange("slow.reply.celery.pidbox", 0, -1))
    envelope = json.loads(reply)
    assert envelope["headers"]["ticket"] == "t"
    assert json.loads(base64.b64decode(envelope["body"])) == {NODE: {"ok": "pong"}}
    assert 0 < await redis.ttl("slow.reply.celery.pidbox") <= 300
    assert not await redis.exists("gone.reply.celery.pidbox")
    await redis.srem("_kombu.binding.reply.celery.pidbox", binding)
    # The worker's own, for the replies to its hello, goes when it has waited for them.
    await until(lambda: _none(redis.exists("_kombu.binding.reply.celery.pidbox")))


async def _none(count: Any) -> bool:
    return not await count


async def test_answers_come_at_once(worker: Worker, control: ControlClient, redis: Redis) -> None:
    """Each of a hundred requests is answered within a fraction of Flower's second."""
    await ask(control, "ping")
    server = (await redis.info("server"))["process_id"]
    longest = 0.0
    for _ in range(100):
        began = unhindered_s(server)
        await ask(control, "stats")
        longest = max(longest, unhindered_s(server) - began)
    assert longest < 0.5


async def test_requests_beyond_the_bound_are_dropped(
    worker: Worker, control: ControlClient, redis: Redis, redis_url: str
) -> None:
    """A flood of requests costs no more memory than the bound, and ends."""
    db = redis_url.rpartition("/")[2]
    await ask(control, "ping")
    async with redis.pipeline(transaction=False) as pipe:
        for _ in range(MAX_REQUESTS * 3):
            pipe.publish(f"/{db}.celery.pidbox", message({"method": "ping"}))
        await pipe.execute()
    assert await until(lambda: control.ask("ping", destination=[NODE], timeout_s=1.0))


async def test_revoked_tasks_end_when_they_are_reached(
    worker: Worker, control: ControlClient, redis: Redis, redis_url: str
) -> None:
    """Stored as REVOKED at once; told, dropped and acknowledged in their turn, without running."""
    async with listening(redis_url) as events:
        await ask(control, "enable_events")
        assert await ask(control, "revoke", task_id=["a", "b"], terminate=False)
        for task_id in ("a", "b"):
            meta = await stored(redis, task_id)
            assert meta is not None
            assert (meta["status"], meta["children"]) == ("REVOKED", None)
            await send(redis, "rig.add", 1, 2, task_id=task_id)
            await events.until_kind(task_id, "revoked")
        assert not await redis.hlen("unacked")
    assert worker.node.task_events.totals.total() == 0


async def test_terminate_stops_a_running_task(
    worker: Worker, control: ControlClient, redis: Redis
) -> None:
    """Only the task named is stopped, and its result says terminated."""
    for task_id, seconds in (("stop", 60), ("stay", 0.5)):
        await send(redis, "rig.slow", seconds, task_id=task_id)
    await until(lambda: len(worker.running) == 2)
    await until(lambda: stored(redis, "stop"))
    reply = await ask(control, "revoke", task_id="stop", terminate=True, signal="SIGKILL")
    assert reply == {"ok": "terminate: stop"}
    stopped = await final_state(redis, "stop")
    assert stopped["result"]["exc_message"] == ["terminated"]
    assert (await final_state(redis, "stay"))["result"] == "slow"
    assert not await redis.hlen("unacked")


async def test_a_storm_of_terminations_leaves_nothing_behind(
    worker: Worker, control: ControlClient, redis: Redis
) -> None:
    """Tasks stopped at any instant all end, once, and the slots go on."""
    ids = [f"n{number}" for number in range(300)]
    for number, task_id in enumerate(ids):
        await send(redis, "rig.slow", 0.001 * (number % 7), task_id=task_id)
        await control.tell("revoke", {"task_id": ids[max(0, number - 3)], "terminate": True})
    for task_id in ids:
        assert (await final_state(redis, task_id))["status"] in ("SUCCESS", "REVOKED")
    await send(redis, "rig.add", 1, 2, task_id="after")
    assert (await final_state(redis, "after"))["result"] == 3
    await until(lambda: _none(redis.hlen("unacked")))
    assert not worker.node.task_events.signums
    assert not worker.running


async def test_a_task_that_runs_is_not_stored_as_revoked(
    worker: Worker, control: ControlClient, redis: Redis
) -> None:
    """Revoking without terminate leaves what runs, here or elsewhere, and what has ended."""
    await send(redis, "rig.slow", 0.5, task_id="running")
    await until(lambda: stored(redis, "running"))
    elsewhere = json.dumps({"status": "PROGRESS", "result": None, "task_id": "elsewhere"})
    await redis.set("celery-task-meta-elsewhere", elsewhere)
    await ask(control, "revoke", task_id=["running", "elsewhere"])
    assert await redis.get("celery-task-meta-elsewhere") == elsewhere.encode()
    assert (await final_state(redis, "running"))["status"] == "SUCCESS"
    await ask(control, "revoke", task_id="running", terminate=True)
    assert (await final_state(redis, "running"))["status"] == "SUCCESS"


async def test_stamped_tasks_are_revoked(
    worker: Worker, control: ControlClient, redis: Redis
) -> None:
    """One stamp in common is enough, for tasks that wait and for those that run."""
    stamps: dict[str, Any] = {
        "stamped_headers": ["tenant"],
        "stamps": {"tenant": ["acme", "other"]},
    }
    headers = {"headers": {"tenant": ["acme"]}}
    await send(redis, "rig.slow", 60, task_id="runs", **stamps)
    await until(lambda: stored(redis, "runs"))
    reply = await ask(control, "revoke_by_stamped_headers", terminate=True, **headers)
    assert reply == {"ok": "headers {'tenant': ['acme']} revoked"}
    assert (await final_state(redis, "runs"))["status"] == "REVOKED"
    await send(redis, "rig.add", 1, 2, task_id="waits", **stamps)
    assert (await final_state(redis, "waits"))["status"] == "REVOKED"
    others: dict[str, Any] = {"stamped_headers": ["tenant"], "stamps": {"tenant": "somebody"}}
    await send(redis, "rig.add", 1, 2, task_id="other", **others)
    assert (await final_state(redis, "other"))["status"] == "SUCCESS"


async def test_revocations_survive_the_worker(redis_url: str, redis: Redis) -> None:
    """What one worker was told, a later one knows, with nobody alive in between."""
    async with make(redis_url), ControlClient.connect(redis_url) as control:
        await ask(control, "revoke", task_id="survivor")
    await redis.delete("celery-task-meta-survivor")
    await send(redis, "rig.add", 1, 2, task_id="survivor")
    async with make(redis_url):
        assert (await final_state(redis, "survivor"))["status"] == "REVOKED"


async def test_a_revocation_said_while_it_was_deaf_is_learnt(
    worker: Worker, control: ControlClient, redis: Redis
) -> None:
    """After its subscription was cut the worker listens again, and knows what it missed."""
    await ask(control, "ping")
    for client in await redis.client_list(_type="pubsub"):
        await redis.client_kill_filter(_id=client["id"])
    # As another process leaves it that found nobody listening.
    await redis.zadd("crucible:revoked", {"missed": time.time()})
    await until(lambda: "missed" in worker.node.revocations.ids)
    assert await until(lambda: control.ask("ping", destination=[NODE], timeout_s=1.0))


async def test_rate_limits_take_effect(
    worker: Worker, control: ControlClient, redis: Redis
) -> None:
    """A limited task starts at its rate, others pass it, and lifting the limit frees the rest."""
    reply = await ask(control, "rate_limit", task_name="rig.add", rate_limit="10/s")
    assert reply == {"ok": "new rate limit set successfully"}
    assert "rig.add [rate_limit=10/s]" in await ask(control, "registered")
    began = time.monotonic()
    for number in range(6):
        await send(redis, "rig.add", number, 0, task_id=f"limited-{number}")
    await send(redis, "rig.slow", 0, task_id="free")
    free = await final_state(redis, "free")
    limited = [await final_state(redis, f"limited-{number}") for number in range(6)]
    assert time.monotonic() - began >= 0.49
    assert [end["result"] for end in limited] == list(range(6))
    assert free["status"] == "SUCCESS"
    # It was sent last, and did not wait for the sixth of those that are limited.
    assert free["date_done"] < limited[-1]["date_done"]
    await ask(control, "rate_limit", task_name="rig.add", rate_limit="1/h")
    for number in range(5):
        await send(redis, "rig.add", number, 0, task_id=f"held-{number}")
    reserved = await until(lambda: ask(control, "reserved"))
    assert {request["name"] for request in reserved} == {"rig.add"}
    await ask(control, "rate_limit", task_name="rig.add", rate_limit=0)
    for number in range(5):
        assert (await final_state(redis, f"held-{number}"))["result"] == number


async def test_a_limited_worker_gives_back_what_waits(redis_url: str, redis: Redis) -> None:
    """It claims no more than stock prefetches, and a warm shutdown returns it in order."""
    async with make(redis_url) as worker, ControlClient.connect(redis_url) as control:
        await ask(control, "rate_limit", task_name="rig.add", rate_limit="1/h")
        for number in range(40):
            await send(redis, "rig.add", number, 0, task_id=f"n{number:02}")
        await until(lambda: len(worker.rates) >= 8)
        assert await redis.hlen("unacked") <= 8 + 2
    left = [json.loads(raw)["headers"]["id"] for raw in await redis.lrange("celery", 0, -1)]
    assert left[::-1] == [f"n{number:02}" for number in range(1, 40)]


async def test_time_limits_take_effect(
    worker: Worker, control: ControlClient, redis: Redis
) -> None:
    """A limit set at run time stops the next task of that name."""
    await ask(control, "time_limit", task_name="rig.slow", hard=0.2, soft=None)
    await send(redis, "rig.slow", 60, task_id="long")
    meta = await final_state(redis, "long")
    assert meta["result"]["exc_type"] == "TimeLimitExceeded"


async def test_queues_are_added_and_cancelled(
    worker: Worker, control: ControlClient, redis: Redis
) -> None:
    """A queue added is served at once, without polling; one cancelled is served no more."""
    await ask(control, "add_consumer", queue="extra", exchange=None, exchange_type="direct")
    assert [q["name"] for q in await ask(control, "active_queues")] == ["celery", "extra"]
    await send(redis, "rig.add", 1, 2, task_id="extra-1", queue="extra")
    await final_state(redis, "extra-1")
    await ask(control, "cancel_consumer", queue="extra")
    await send(redis, "rig.add", 1, 2, task_id="extra-2", queue="extra")
    await send(redis, "rig.add", 1, 2, task_id="celery-1")
    await final_state(redis, "celery-1")
    assert await redis.llen("extra") == 1
    assert worker.queues == ("celery",)
    await ask(control, "cancel_consumer", queue="celery")
    assert await ask(control, "active_queues") == []
    await ask(control, "add_consumer", queue="extra")
    await final_state(redis, "extra-2")


async def test_the_pool_grows_and_shrinks(
    worker: Worker, control: ControlClient, redis: Redis
) -> None:
    """More tasks run at once after growing, and fewer after shrinking, never none."""
    for number in range(4):
        await send(redis, "rig.slow", 1, task_id=f"n{number}")
    await until(lambda: len(worker.running) == 2)
    assert await ask(control, "pool_grow", n=2) == {"ok": "pool will grow"}
    await until(lambda: len(worker.running) == 4)
    assert await ask(control, "pool_shrink", n=3) == {"ok": "pool will shrink"}
    assert "ValueError" in (await ask(control, "pool_shrink", n=1))["error"]
    assert (await ask(control, "stats"))["pool"]["max-concurrency"] == 1


async def test_shutdown_is_warm_and_exits_0(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    """The process lets its running task end, says goodbye and exits 0; no other is meant."""
    tasks = ["--tasks", "support.fleet_tasks", "--queues", "celery", "--name", NODE, "--events"]
    environment = {"PYTHONPATH": str(_tests())}
    async with (
        listening(redis_url) as events,
        ControlClient.connect(redis_url) as control,
        async_worker(redis_url, *tasks, **environment) as process,
    ):
        await events.until(lambda: any(e["type"] == "worker-online" for e in events.seen), START_S)
        await send(redis, "rig.slow", 1, task_id="last")
        await events.until_kind("last", "started")
        assert await control.ask("shutdown", destination=["nobody@rig"], timeout_s=0.3) == {}
        assert await control.ask("shutdown", destination=[NODE], timeout_s=0.3) == {}
        assert await process.wait() == 0
        assert events.kinds("last") == ["received", "started", "succeeded"]
        assert (await events.until_worker("offline", NODE))["processed"] == 1
    assert (await final_state(redis, "last"))["result"] == "slow"


def _tests() -> Path:
    from stock_rig.environments import TESTS

    return TESTS


async def test_control_works_without_scripting(redis_url: str, redis: Redis) -> None:
    """On servers without scripts requests, replies, revoking and changing queues work the same."""
    async with (
        make(redis_url, claim="brpop") as worker,
        ControlClient.connect(redis_url, scripting=False) as control,
    ):
        assert await ask(control, "ping") == {"ok": "pong"}
        await control.revoke(["never"])
        assert (await final_state(redis, "never"))["status"] == "REVOKED"
        await ask(control, "add_consumer", queue="extra")
        await send(redis, "rig.add", 1, 2, task_id="extra-1", queue="extra")
        assert (await final_state(redis, "extra-1"))["result"] == 3
        await send(redis, "rig.slow", 60, task_id="stop")
        await until(lambda: stored(redis, "stop"))
        await control.revoke(["stop"], terminate=True)
        assert (await final_state(redis, "stop"))["status"] == "REVOKED"
        for queue in ("celery", "extra"):
            await ask(control, "cancel_consumer", queue=queue)
        assert worker.queues == ()
        ends = asyncio.get_running_loop().time() + 1.5
        while asyncio.get_running_loop().time() < ends:
            # The pop in progress ends meanwhile; a loop with nothing to wait on must not spin.
            assert await ask(control, "ping") == {"ok": "pong"}
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("final", [False, True])
async def test_a_task_revoked_while_it_runs_unseen_comes_to_its_own_end(
    redis_url: str, redis: Redis, worker: Worker, control: ControlClient, *, final: bool
) -> None:
    """Another worker cannot know of the run; its end counts, unless REVOKED is to stay."""
    gates["unseen"] = asyncio.Event()
    other = Worker(registry, broker_url=redis_url, name="async2@rig", queues=["elsewhere"])
    async with other:
        await send(redis, "rig.gate", "unseen", task_id="unseen")
        await until(lambda: _true(any(run.message for run in worker.running)))
        assert await control.revoke(["unseen"], final=final) == 2
        assert (await final_state(redis, "unseen"))["status"] == "REVOKED"
        await until(
            lambda: _true(
                "unseen" in worker.node.revocations.ids and "unseen" in other.node.revocations.ids
            )
        )
        gates["unseen"].set()
        await until(lambda: _true(worker.settled))
    assert (await final_state(redis, "unseen"))["status"] == ("REVOKED" if final else "SUCCESS")


async def _true(value: object) -> object:
    return value


def test_passwords_are_masked() -> None:
    """However a URL carries a password, it does not show."""
    for url in (
        "redis://:secret@h/0",
        "redis://user:secret@h/0",
        "redis://h/0?password=secret&ssl=1",
        "sentinel://:secret@a;sentinel://:secret@b/0?master_name=m&sentinel_password=secret",
    ):
        assert "secret" not in masked(url)
    assert masked("redis://user:secret@h/0") == "redis://user:********@h/0"
    assert masked("redis://h/0") == "redis://h/0"

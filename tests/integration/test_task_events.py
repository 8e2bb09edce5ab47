"""The events of an async worker, held to those of stock workers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from stock_rig.golden import load
from stock_rig.reading import events as golden_events
from support.faults import Fault, FaultProxy
from support.fleet_rig import listening, send, stored, until
from support.fleet_tasks import gates, registry

from crucible.broker import Publisher, TaskCall
from crucible.broker.control.client import ControlClient
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.embedded.server import EmbeddedServer

NODE = "async1@rig"


def worker(url: str, **options: Any) -> Worker:
    options.setdefault("events", True)
    return Worker(registry, broker_url=url, concurrency=4, name=NODE, drain_s=5.0, **options)


def golden_members() -> dict[str, set[tuple[str, ...]]]:
    """The members of every kind of event that stock 5.7 was seen to send, in order."""
    members: dict[str, set[tuple[str, ...]]] = {}
    captures = [load("5.7.0", name)["entries"] for name in ("traces", "control")]
    for entries in captures:
        for entry in entries:
            for event in golden_events(entry.get("trace", [])):
                members.setdefault(event["type"], set()).add(tuple(event))
    return members


async def test_every_event_has_stocks_members_in_order(redis_url: str, redis: Redis) -> None:
    """Whatever happens to a task is told in the words, the order and the batches of stock."""
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    async with (
        listening(redis_url) as events,
        ControlClient.connect(redis_url) as control,
        worker(redis_url),
    ):
        await send(redis, "rig.add", 1, 2, task_id="ok")
        await send(redis, "rig.fail", task_id="failed")
        await send(redis, "rig.retry_then_ok", task_id="retried")
        await send(redis, "rig.reject", False, task_id="rejected")
        await send(redis, "rig.reject", True, task_id="requeued")
        await send(redis, "rig.nobody", task_id="unknown")
        await send(redis, "rig.add", 1, 2, task_id="expired", expires=past)
        await send(redis, "rig.slow", 60, task_id="stopped")
        await events.until_kind("stopped", "started")
        await control.revoke(["stopped"], terminate=True, signal="SIGKILL")
        await control.tell("revoke", {"task_id": "dropped"})
        for task_id, kind in (
            ("ok", "succeeded"),
            ("failed", "failed"),
            ("rejected", "rejected"),
            ("requeued", "succeeded"),
            ("retried", "succeeded"),
            ("unknown", "failed"),
            ("expired", "revoked"),
            ("stopped", "revoked"),
        ):
            await events.until_kind(task_id, kind)
        await send(redis, "rig.add", 1, 2, task_id="dropped")
        await events.until_kind("dropped", "revoked")
        await events.until_worker("heartbeat", NODE)
    await events.until_worker("offline", NODE)
    ids = dict.fromkeys(event["uuid"] for event in events.seen if "uuid" in event)
    kinds = {task_id: events.kinds(task_id) for task_id in ids}
    assert kinds == {
        "ok": ["received", "started", "succeeded"],
        "failed": ["received", "started", "failed"],
        "retried": ["received", "started", "retried", "received", "started", "succeeded"],
        "rejected": ["received", "started", "failed", "rejected"],
        "requeued": ["received", "started", "rejected", "received", "started", "succeeded"],
        "unknown": ["failed"],
        "expired": ["revoked"],
        "stopped": ["received", "started", "revoked"],
        "dropped": ["revoked"],
    }
    golden = golden_members()
    for event in events.seen:
        if event["type"] == "task-failed" and event["uuid"] == "rejected":
            continue  # without a traceback, as the golden event of a task that never ran
        assert tuple(event) in golden[event["type"]], event
    for event, channel, batch in zip(events.seen, events.channels, events.batches, strict=True):
        name = "task.multi" if "uuid" in event else event["type"].replace("-", ".")
        assert channel.endswith(f".celeryev/{name}")
        assert batch is ("uuid" in event)
    clocks = [event["clock"] for event in events.seen if "uuid" in event]
    assert clocks == sorted(set(clocks))
    assert events.of("stopped")[-1]["signum"] == 9
    assert events.of("stopped")[-1]["terminated"] is True
    assert events.of("expired")[-1]["expired"] is True
    assert events.of("ok")[-1]["result"] == "3"
    assert events.of("requeued")[-1]["result"] == "'second time'"
    assert events.of("failed")[-1]["exception"] == "ValueError('bang', 42)"
    assert events.of("failed")[-1]["traceback"].startswith("Traceback (most recent call last)")


async def test_who_hears_of_an_end_finds_the_result(redis_url: str, redis: Redis) -> None:
    """At each final event the result is stored and the message no longer claimed."""
    async with listening(redis_url) as events, worker(redis_url):
        for number in range(50):
            task_id = await send(redis, "rig.add", number, 1, task_id=f"id-{number}")
            await events.until_kind(task_id, "succeeded")
            meta = await stored(redis, task_id)
            assert meta is not None
            assert meta["result"] == number + 1
            assert not await redis.hlen("unacked")


async def test_a_delayed_task_is_told_of_when_it_comes(redis_url: str, redis: Redis) -> None:
    """Like stock, received is said at once with the eta; it starts when it is due."""
    due = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    async with listening(redis_url) as events, worker(redis_url):
        await send(redis, "rig.add", 1, 2, task_id="later", eta=due)
        [received] = await events.until_kind("later", "received")
        assert received["eta"] == due
        assert received["timestamp"] < datetime.fromisoformat(due).timestamp()
        await events.until_kind("later", "succeeded")
        [started] = [e for e in events.of("later") if e["type"] == "task-started"]
        assert started["timestamp"] >= datetime.fromisoformat(due).timestamp()
        assert events.kinds("later") == ["received", "started", "succeeded"]


async def test_a_delayed_task_is_told_of_once_by_whichever_worker(
    redis_url: str, redis: Redis
) -> None:
    """The worker that takes it when due says nothing new; its next try is told of again."""
    due = (datetime.now(UTC) + timedelta(seconds=0.6)).isoformat()
    async with listening(redis_url) as events:
        async with worker(redis_url):
            await send(redis, "rig.retry_then_ok", 1, 0.05, task_id="later", eta=due)
            await events.until_kind("later", "received")
        assert await redis.hlen("unacked") == 1
        async with worker(redis_url):
            await events.until_kind("later", "succeeded")
    assert events.kinds("later") == [
        "received", "started", "retried", "received", "started", "succeeded",
    ]  # fmt: skip


async def test_moments_that_utc_cannot_write_break_nothing(redis_url: str, redis: Redis) -> None:
    """The last hour of the calendar, west of Greenwich: waited for, run, listed, told of."""
    last = "9999-12-31T23:59:59-05:00"
    told = "9999-12-31T23:59:59+00:00"
    async with (
        listening(redis_url) as events,
        ControlClient.connect(redis_url) as control,
        worker(redis_url) as ours,
        Publisher.connect(redis_url, events=True, origin="gen1@rig") as publisher,
    ):
        await send(redis, "rig.add", 1, 2, task_id="never", eta=last)
        [received] = await events.until_kind("never", "received")
        assert received["eta"] == told
        await send(redis, "rig.add", 1, 2, task_id="in-time", expires=last)
        await events.until_kind("in-time", "succeeded")
        await until(lambda: not list(ours.unsettled))
        [row] = (await control.ask("scheduled"))[NODE]
        assert (row["eta"], row["request"]["id"]) == (told, "never")
        sent = await publisher.send_task("rig.add", [1, 2], queue="other", expires=last)
        assert (await events.until_kind(sent.id, "sent"))[0]["expires"] == told


async def test_hooks_that_raise_cannot_break_a_task(redis_url: str, redis: Redis) -> None:
    """They are logged; tasks run, fail, retry and wait as ever, and other hooks are called."""

    class Raising:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    due = (datetime.now(UTC) + timedelta(seconds=0.2)).isoformat()
    async with listening(redis_url) as events, worker(redis_url, hooks=Raising()):
        await send(redis, "rig.add", 1, 2, task_id="ok")
        await send(redis, "rig.add", 1, 2, task_id="later", eta=due)
        await send(redis, "rig.fail", task_id="failed")
        await send(redis, "rig.retry_then_ok", 1, 0.01, task_id="retried")
        for task_id in ("ok", "later", "retried"):
            await until(partial(_has, redis, task_id, "SUCCESS"))
        await until(partial(_has, redis, "failed", "FAILURE"))
        assert events.kinds("ok") == ["received", "started", "succeeded"]


async def _has(redis: Redis, task_id: str, status: str) -> bool:
    meta = await stored(redis, task_id)
    return meta is not None and meta["status"] == status


async def test_received_names_the_shadow(redis_url: str, redis: Redis) -> None:
    """A task sent under another name is told of under it, as from stock."""
    async with listening(redis_url) as events, worker(redis_url):
        await send(redis, "rig.add", 1, 2, task_id="it", shadow="shady")
        received = (await events.until_kind("it", "received"))[0]
        assert received["name"] == "shady"


async def test_events_are_switched_by_remote_control(redis_url: str, redis: Redis) -> None:
    """Without -E there are worker events only, until somebody asks for more, or for less again."""
    async with (
        listening(redis_url) as events,
        ControlClient.connect(redis_url) as control,
        worker(redis_url, events=False),
    ):
        for number, (command, told) in enumerate(
            ((None, False), ("enable_events", True), ("disable_events", False))
        ):
            if command:
                await control.ask(command, destination=[NODE])
            task_id = await send(redis, "rig.add", 1, 2, task_id=f"n{number}")
            await until(partial(stored, redis, task_id))
            beat = await control.ask("heartbeat", destination=[NODE])
            assert beat == {NODE: None}
            if told:
                await events.until_kind(task_id, "succeeded")
    await events.until_worker("offline", NODE)
    assert {event["uuid"] for event in events.seen if "uuid" in event} == {"n1"}
    short = [e for e in events.seen if e["type"] == "worker-heartbeat" and e["freq"] == 5]
    assert len(short) == 3
    online = await events.until_worker("online", NODE)
    assert (online["freq"], online["sw_ident"], online["active"]) == (2.0, "crucible", 0)


async def test_no_event_is_lost_while_connections_die(redis_url: str, redis: Redis) -> None:
    """The worker's connections are cut again and again: every task still has all its events."""
    ids = [f"id-{number}" for number in range(400)]
    async with listening(redis_url) as events, worker(redis_url):
        for number, task_id in enumerate(ids):
            await send(redis, "rig.add", number, 1, task_id=task_id)
            if number % 20 == 0:
                await _cut(redis)
        await events.until(
            lambda: len({e["uuid"] for e in events.seen if e["type"] == "task-succeeded"}) == 400,
            30,
        )
    by_task = {task_id: events.kinds(task_id) for task_id in ids}
    for task_id, kinds in by_task.items():
        # A batch whose answer was cut off is sent again; nothing else may repeat.
        assert list(dict.fromkeys(kinds)) == ["received", "started", "succeeded"], (task_id, kinds)


async def _cut(redis: Redis) -> None:
    for client in await redis.client_list():
        if client["name"] == "worker":
            await redis.client_kill_filter(_id=client["id"])


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.STALL, Fault.BLACKHOLE])
async def test_events_wait_for_a_server_that_is_away(
    redis_server: EmbeddedServer, redis_url: str, redis: Redis, fault: Fault
) -> None:
    """What happens while the worker cannot reach the server is told when it can."""
    database = int(redis_url.rpartition("/")[2])
    gate = gates["away"] = asyncio.Event()
    async with (
        FaultProxy("127.0.0.1", redis_server.port) as proxy,
        listening(redis_url) as events,
        worker(proxy.url(database)) as ours,
    ):
        await send(redis, "rig.gate", "away", task_id="through")
        await events.until_kind("through", "started")
        await events.until_worker("online", NODE)
        proxy.set(fault)
        gate.set()
        await until(lambda: not ours.running)
        assert await stored(redis, "through") is None
        events.seen.clear()
        proxy.set(Fault.PASS)
        await events.until_kind("through", "succeeded")
        meta = await stored(redis, "through")
        assert meta is not None
        assert meta["result"] == "away"
        # Its subscription may have outlived a stall; then it never went offline.
        kind = "heartbeat" if fault is Fault.STALL else "online"
        await events.until_worker(kind, NODE)


@pytest.mark.parametrize("prefix", ["", "pfx:"])
async def test_channels_follow_database_and_prefix(
    redis_url: str, redis: Redis, prefix: str
) -> None:
    """Channels carry the database's number behind the prefix, and control works through both."""
    async with (
        listening(redis_url, prefix) as events,
        worker(redis_url, key_prefix=prefix),
        ControlClient.connect(redis_url, global_keyprefix=prefix) as control,
    ):
        await events.until_worker("online", NODE)
        assert await control.ask("ping", destination=[NODE]) == {NODE: {"ok": "pong"}}
    assert all(channel.startswith(f"{prefix}/") for channel in events.channels)
    assert not await redis.keys("*pidbox*")


async def test_a_producer_tells_what_it_sent(redis_url: str) -> None:
    """With events a publisher tells task-sent in stock's members, for single tasks and batches."""
    async with (
        listening(redis_url) as events,
        Publisher.connect(redis_url, events=True, origin="gen1@rig") as publisher,
    ):
        due = datetime(2099, 1, 2, tzinfo=UTC)
        one = await publisher.send_task("rig.add", [1, 2], {"z": 3}, queue="other", eta=due)
        await publisher.send_batch([TaskCall("rig.add", [n, n]) for n in range(3)])
        await events.until(lambda: len(events.seen) == 4)
    assert {tuple(event) for event in events.seen} == golden_members()["task-sent"]
    [first] = events.of(one.id)
    assert (first["queue"], first["routing_key"], first["exchange"]) == ("other", "other", "")
    assert (first["args"], first["kwargs"]) == ("[1, 2]", "{'z': 3}")
    assert (first["eta"], first["hostname"]) == (due.isoformat(), "gen1@rig")

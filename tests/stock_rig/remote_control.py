"""Captures a stock worker's replies to every remote control command, and its worker events."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from stock_rig.client import StockClient
from stock_rig.monitor import Monitor
from stock_rig.scenarios import trace, until_state
from stock_rig.worker import StockWorker

if TYPE_CHECKING:
    from stock_rig.monitor import Command

NODE = "stock1@rig"
ACTIVE, RESERVED, DELAYED = (f"00000000-0000-4000-8000-00000000000{n}" for n in "123")
#: The worker sends a heartbeat every two seconds, which belongs to no command.
HEARTBEAT = "/0.celeryev/worker.heartbeat"
#: Number of heartbeats that a lifecycle capture waits for.
BEATS = 2

#: ``(method, arguments, destination)`` in order; without the election command, which crashes stock
#: workers.
COMMANDS: tuple[tuple[str, dict[str, Any], list[str] | None], ...] = (
    ("ping", {}, None),
    ("ping", {}, [NODE]),
    ("clock", {}, None),
    ("report", {}, None),
    ("conf", {"with_defaults": False}, None),
    ("stats", {}, None),
    ("registered", {"taskinfoitems": []}, None),
    ("registered", {"taskinfoitems": ["rate_limit"]}, None),
    ("active_queues", {}, None),
    ("active", {"safe": None}, None),
    ("active", {"safe": True}, None),
    ("reserved", {}, None),
    ("scheduled", {}, None),
    ("query_task", {"ids": [ACTIVE, RESERVED, DELAYED, "unknown"]}, None),
    ("revoked", {}, None),
    ("hello", {"from_node": "other@rig", "revoked": {}}, None),
    ("hello", {"from_node": "other@rig", "revoked": None}, None),
    ("hello", {"from_node": NODE, "revoked": {}}, None),
    ("revoke", {"task_id": "not-seen", "terminate": False, "signal": "SIGTERM"}, None),
    ("revoke", {"task_id": ["not-seen-2"], "terminate": True, "signal": "SIGTERM"}, None),
    ("revoke", {"task_id": RESERVED, "terminate": False, "signal": "SIGTERM"}, None),
    ("revoke_by_stamped_headers", {"headers": {"tenant": ["acme"]}}, None),
    ("revoked", {}, None),
    ("hello", {"from_node": "other@rig", "revoked": {}}, None),
    ("rate_limit", {"task_name": "rig.add", "rate_limit": "10/m"}, None),
    ("rate_limit", {"task_name": "rig.add", "rate_limit": 0}, None),
    ("rate_limit", {"task_name": "rig.add", "rate_limit": "wrong"}, None),
    ("rate_limit", {"task_name": "rig.unknown", "rate_limit": "10/m"}, None),
    ("time_limit", {"task_name": "rig.add", "hard": 60, "soft": 30}, None),
    ("time_limit", {"task_name": "rig.unknown", "hard": 60, "soft": 30}, None),
    ("pool_grow", {"n": 1}, None),
    ("pool_shrink", {"n": 1}, None),
    ("autoscale", {"max": 4, "min": 1}, None),
    ("pool_restart", {"modules": None, "reload": False}, None),
    ("add_consumer", {"queue": "extra"}, None),
    ("add_consumer", {"queue": "extra"}, None),
    ("active_queues", {}, None),
    ("cancel_consumer", {"queue": "extra"}, None),
    ("cancel_consumer", {"queue": "nowhere"}, None),
    ("enable_events", {}, None),
    ("enable_events", {}, None),
    ("disable_events", {}, None),
    ("disable_events", {}, None),
    ("heartbeat", {}, None),
    ("nosuch", {}, None),
    ("rate_limit", {}, None),
)


def commands_of(commands: list[Command], method: str) -> list[list[str]]:
    """The commands that belong to a request, without heartbeats that it did not cause."""
    return [
        words
        for words in trace(commands)
        if method == "heartbeat" or words[:2] != ["PUBLISH", HEARTBEAT]
    ]


async def give_work(client: StockClient, monitor: Monitor) -> None:
    """One active task, one reserved, one with a long delay."""
    for task_id, options in (
        (ACTIVE, {}),
        (RESERVED, {"headers": {"tenant": "acme"}, "priority": 6}),
        (DELAYED, {"eta": {"$datetime": "2099-01-02T03:04:05+00:00"}, "priority": 3}),
    ):
        await client.send_task("rig.slow", [120], {"kw": 1} if options else {}, task_id=task_id,
                               **options)  # fmt: skip
        if task_id == ACTIVE:
            await until_state(monitor, ACTIVE, "STARTED")


async def all_received(redis: Redis) -> None:
    """Wait until the worker has received all messages."""
    async with asyncio.timeout(60):
        while await redis.exists("celery") or await redis.hlen("unacked") < 2:
            await asyncio.sleep(0.02)


async def ask(
    client: StockClient, monitor: Monitor, method: str, arguments: dict[str, Any],
    destination: list[str] | None,
) -> dict[str, Any]:  # fmt: skip
    """One command with its reply and everything that was written for it."""
    start = await monitor.settle()
    reply = await client.control(
        "broadcast", method, arguments=arguments, destination=destination, reply=True, limit=1,
        timeout=0.7,
    )  # fmt: skip
    if method == "heartbeat":
        # The event it causes is sent before the reply, over another connection.
        await asyncio.sleep(0.2)
    end = await monitor.settle()
    return {
        "method": method,
        "arguments": arguments,
        "destination": destination,
        "reply": reply,
        "trace": commands_of(monitor.commands[start:end], method),
    }


async def lifecycle(version: str, url: str) -> list[dict[str, Any]]:
    """What an idle worker writes at startup, while idle, and at a warm shutdown."""
    async with Monitor(url) as monitor:
        worker = StockWorker(version, url, sociable=True, events=True, node=NODE)
        async with worker:
            async with asyncio.timeout(60):
                while len(beats(monitor.commands)) < BEATS:
                    await asyncio.sleep(0.1)
            start = await monitor.settle()
            await worker.stop()
            end = await monitor.settle()
    return [
        {"lifecycle": "start_and_heartbeats", "trace": trace(monitor.commands[:start])},
        {"lifecycle": "warm_shutdown", "trace": trace(monitor.commands[start:end])},
    ]


def beats(commands: list[Command]) -> list[list[str]]:
    """The heartbeats among the commands."""
    return [words for words in trace(commands) if words[:2] == ["PUBLISH", HEARTBEAT]]


async def run_commands(version: str, url: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """A stock worker's lifecycle, every command of the table with its reply, and a shutdown.

    Returns:
        The versions installed, and an entry per command.
    """
    entries = await lifecycle(version, url)
    async with (
        Redis.from_url(url, decode_responses=True) as redis,
        StockClient(version, url) as client,
        StockWorker(version, url, pool="prefork", sociable=True, node=NODE) as worker,
        Monitor(url) as monitor,
    ):
        await redis.flushdb()
        await give_work(client, monitor)
        await all_received(redis)
        for method, arguments, destination in json.loads(json.dumps(COMMANDS)):
            entries.append(await ask(client, monitor, method, arguments, destination))
        entries.append(await ask(client, monitor, "revoke",
            {"task_id": ACTIVE, "terminate": True, "signal": "SIGKILL"}, None))  # fmt: skip
        entries.append(await ask(client, monitor, "shutdown", {}, [NODE]))
        await worker.wait()
        versions = await client.versions()
    return versions, entries

"""A minute of ordinary life: async and stock workers, two Flowers, and operators' commands."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from stock_rig.child import Child
from stock_rig.client import StockClient
from stock_rig.environments import (
    FLOWER_VERSIONS,
    NEWEST,
    OLDEST,
    PROJECT,
    TESTS,
    process_environment,
)
from stock_rig.flower import Flower
from stock_rig.worker import StockWorker
from support.fleet_rig import listening
from support.worker_rig import async_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.stock, pytest.mark.long, pytest.mark.timeout(600)]

ASYNC, OLD, NEW, OURS = "async1@rig", "stock53@rig", "stock57@rig", "stockapp@rig"
MINUTE_S = 60.0
#: What is typed, and what must be in the answer about the async worker.
COMMANDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("status",), f"{ASYNC}: OK"),
    (("inspect", "ping"), "pong"),
    (("inspect", "active"), ASYNC),
    (("inspect", "active_queues"), "celery"),
    (("inspect", "clock"), "clock"),
    (("inspect", "conf"), "broker_url"),
    (("inspect", "memsample"), "MB"),
    (("inspect", "query_task", "some-id"), ASYNC),
    (("inspect", "registered"), "rig.add"),
    (("inspect", "report"), "crucible:"),
    (("inspect", "reserved"), ASYNC),
    (("inspect", "revoked"), ASYNC),
    (("inspect", "scheduled"), ASYNC),
    (("inspect", "stats"), "crucible.worker.slots"),
    (("control", "enable_events"), "task events"),
    (("control", "disable_events"), "task events"),
    (("control", "heartbeat"), ASYNC),
    (("control", "add_consumer", "extra"), "add consumer extra"),
    (("control", "cancel_consumer", "extra"), "no longer consuming from extra"),
    (("control", "pool_grow", "1"), "pool will grow"),
    (("control", "pool_shrink", "1"), "pool will shrink"),
    (("control", "rate_limit", "rig.add", "1000/s"), "new rate limit set successfully"),
    # Stock's command sends "0" as text, and stock's reply to that is this one.
    (("control", "rate_limit", "rig.add", "0"), "new rate limit set successfully"),
    (("control", "time_limit", "rig.slow", "30", "60"), "time limits set successfully"),
    (("control", "revoke", "some-id"), "flagged as revoked"),
    (("control", "terminate", "SIGTERM", "some-id"), "tasks unknown"),
)


async def typed(url: str, words: Sequence[str], destination: str = ASYNC) -> str:
    """What ``celery -A crucible.celery_app …`` prints."""
    environment = process_environment(url, extra={"CELERY_BROKER_URL": url})
    target = [] if words[0] == "status" else ["-d", destination]
    command = [sys.executable, "-m", "celery", "-A", "crucible.celery_app"]
    options = [*command, words[0], "-t", "10", *target, *words[1:]]
    async with Child(options, environment) as child:
        assert await child.wait(60) == 0, child.log
        return child.log


async def busy(client: StockClient, ends: float) -> list[str]:
    """Keep sending tasks that any of the workers may run; returns their ids."""
    ids: list[str] = []
    for number in itertools.count():
        if time.monotonic() > ends:
            return ids
        ids.append(await client.send_task("rig.add", [number, 1]))
        # An idle stock worker blocks on the common queue and always wins; this one is ours.
        ids.append(await client.send_task("rig.add", [number, 2], queue="async"))
        if number % 10 == 0:
            await client.send_task("rig.fail", queue="async")
        await asyncio.sleep(0.1)
    raise AssertionError


async def test_a_minute_without_a_warning(redis_url: str) -> None:
    """Status, inspect, control and both Flowers work; no stock worker logs a warning or error."""
    ours = ("--tasks", "support.fleet_tasks", "--queues", "celery,async", "--name", ASYNC, "-E")
    environment = {"PYTHONPATH": str(TESTS)}
    sociable: dict[str, Any] = {"sociable": True, "events": True}
    async with (
        listening(redis_url) as events,
        StockWorker(OLDEST, redis_url, node=OLD, **sociable) as old,
        async_worker(redis_url, *ours, **environment) as process,
        StockWorker(NEWEST, redis_url, node=NEW, **sociable) as new,
        StockWorker(
            PROJECT,
            redis_url,
            node=OURS,
            app="crucible.celery_app",
            queues=("maintenance",),
            environment={"CELERY_BROKER_URL": redis_url},
            **sociable,
        ) as app,
        Flower(redis_url, FLOWER_VERSIONS[0]) as older,
        Flower(redis_url, FLOWER_VERSIONS[1]) as newer,
        StockClient(NEWEST, redis_url) as client,
    ):
        ends = time.monotonic() + MINUTE_S
        sending = asyncio.create_task(busy(client, ends))
        for number, (words, expected) in enumerate(itertools.cycle(COMMANDS), 1):
            printed = await typed(redis_url, words)
            assert expected in printed, (words, printed)
            if time.monotonic() > ends and number >= len(COMMANDS):
                break
        for task_id in await sending:
            await client.get(task_id)
        for flower in (older, newer):
            workers = await flower.get("/api/workers", refresh="true")
            assert set(workers) >= {ASYNC, OLD, NEW, OURS}
            assert ASYNC in await flower.page(f"/worker/{ASYNC}")
            tasks = await flower.get("/api/tasks", limit="100", workername=ASYNC, state="SUCCESS")
            assert tasks
            assert "ERROR" not in flower.log
            assert "Traceback" not in flower.log
        status = await typed(redis_url, ("status",))
        assert "4 nodes online" in status
        for worker in (old, new, app):
            worker.assert_quiet()
        assert await process.stop() == 0
    # Those of tasks that fail belong there, as in a stock worker's log.
    assert [ln for ln in process.lines if "Traceback" in ln and "rig.fail[" not in ln] == []
    online = [e for e in events.seen if e["type"] == "worker-online" and e["hostname"] == ASYNC]
    assert len(online) == 1
    beats = [e["timestamp"] for e in events.seen if _is_beat(e)]
    gaps = [after - before for before, after in itertools.pairwise(beats)]
    assert max(gaps) < 4.0, "a peer would have taken it for lost"


def _is_beat(event: dict[str, Any]) -> bool:
    ours = event["hostname"] == ASYNC and event["type"] == "worker-heartbeat"
    return ours and float(event["freq"]) < 5

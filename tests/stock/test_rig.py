"""The rig itself: real workers, clients and Flower of every version start, answer, and end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from stock_rig.client import StockClient, StockClientError
from stock_rig.environments import FLOWER_VERSIONS, NEWEST, OLDEST, ROOT, TESTS, VERSIONS
from stock_rig.flower import Flower
from stock_rig.monitor import Monitor, parse
from stock_rig.reading import events, messages, replies, results
from stock_rig.scenarios import run_scenario, trace
from stock_rig.worker import StockWorker, loud_lines
from support.fleet_rig import until

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

pytestmark = pytest.mark.stock


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_stock_client_gets_its_sum_from_a_stock_worker(
    version: str, redis_url: str
) -> None:
    """A worker and a client of every version run a task on the test's database, quietly."""
    async with StockClient(version, redis_url) as client:
        async with StockWorker(version, redis_url) as worker:
            task_id = await client.send_task("rig.add", [1, 2])
            assert await client.get(task_id) == 3
            pong = await until(lambda: client.inspect("ping", timeout=0.3))
            assert pong == {worker.node: {"ok": "pong"}}
            worker.assert_quiet()
        assert (await client.versions())["celery"] == version


async def test_the_oldest_client_gets_a_chord_from_the_newest_worker(redis_url: str) -> None:
    """Versions mix: canvas of 5.3 through a threaded worker of 5.7, which takes part in mingle."""
    header = [{"$signature": {"task": "rig.add", "args": [n, n]}} for n in (1, 2)]
    call = {"canvas": {"chord": {"header": header, "body": {"$signature": {"task": "rig.xsum"}}}}}
    async with (
        StockClient(OLDEST, redis_url) as client,
        StockWorker(NEWEST, redis_url, pool="threads", concurrency=2, sociable=True) as worker,
    ):
        sent = await client.send(call, "canvas")
        assert await client.get(sent["id"]) == 6
        assert len(sent["parent"]["children"]) == 2
        worker.assert_quiet()


async def test_an_end_that_was_not_heard_is_found_and_counted(redis_url: str, redis: Redis) -> None:
    """A result that is stored and not published is to the client as one published too early."""

    async def looks() -> int:
        answered = await redis.info("commandstats")
        return int(answered.get("cmdstat_get", {}).get("calls", 0))

    async with StockClient(NEWEST, redis_url) as client:
        before = await looks()
        value = asyncio.create_task(client.get("quiet"))
        async with asyncio.timeout(60):
            while await looks() == before:
                await asyncio.sleep(0.01)
        stored = {"status": "SUCCESS", "result": 7, "task_id": "quiet", "children": []}
        await redis.set("celery-task-meta-quiet", json.dumps(stored))
        assert await value == 7
        assert await client.ask("unheard") == ["quiet"]


@pytest.mark.parametrize("version", FLOWER_VERSIONS)
async def test_flower_knows_worker_and_task(version: str, redis_url: str) -> None:
    """Flower of either version answers over HTTP with the worker and the task it ran."""
    async with (
        StockWorker(version, redis_url, events=True) as worker,
        Flower(redis_url, version) as flower,
        StockClient(version, redis_url) as client,
    ):
        assert (await flower.until_worker(worker.node))["active_queues"][0]["name"] == "celery"
        task = await flower.until_task(await client.send_task("rig.add", [1, 2]))
        assert (task["name"], task["result"]) == ("rig.add", "3")
        assert worker.node in await flower.page(f"/worker/{worker.node}")
        worker.assert_quiet()


async def test_a_killed_worker_leaves_no_process(redis_url: str) -> None:
    """Leaving the context ends a prefork worker and its pool, though one was told to go on."""
    async with (
        StockClient(NEWEST, redis_url) as client,
        StockWorker(NEWEST, redis_url, pool="prefork") as worker,
    ):
        await client.send_task("rig.slow", [60], task_id="slow")

        def stats() -> Awaitable[Any]:
            return client.inspect("stats", timeout=0.5)

        pids = (await until(stats))[worker.node]["pool"]["processes"]
        assert pids
    assert worker.returncode == -signal.SIGKILL
    for pid in (worker.pid, *pids):
        assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            # A killed child of a killed parent may wait as a zombie for init to reap it.
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_worker_ends_by_itself_when_asked(redis_url: str) -> None:
    """SIGTERM is a warm shutdown with exit code 0, and the log says so."""
    async with StockWorker(NEWEST, redis_url) as worker:
        assert await worker.stop() == 0
        await worker.wait_for_log("Warm shutdown")
        assert os.WIFEXITED(worker.returncode or 0)


async def test_an_exception_in_the_client_is_told(redis_url: str) -> None:
    """What raises on the stock side raises here with its class and text."""
    async with StockClient(NEWEST, redis_url) as client:
        with pytest.raises(StockClientError, match="ValueError: nonsense"):
            await client.run("raise ValueError('nonsense')")
        assert await client.run("answer = given['n'] + 1", {"n": 1}) == 2


async def test_a_failing_task_makes_the_log_loud(redis_url: str) -> None:
    """``assert_quiet`` refuses a worker that logged an error, unless the test expects it."""
    async with (
        StockClient(NEWEST, redis_url) as client,
        StockWorker(NEWEST, redis_url) as worker,
    ):
        with pytest.raises(StockClientError, match="bang"):
            await client.get(await client.send_task("rig.fail"))
        await worker.wait_for_log("raised unexpected")
        with pytest.raises(AssertionError, match="not quiet"):
            worker.assert_quiet()
        worker.assert_quiet("raised unexpected", "^Traceback")


def test_environments_are_pinned_and_made_once() -> None:
    """Every pin is exact and names no index, and making environments again does nothing."""
    for version in VERSIONS:
        pins = (TESTS / "stock" / "requirements" / f"{version}.txt").read_text().splitlines()
        assert f"celery=={version}" in pins
        assert not [pin for pin in pins if not re.match(r"[a-z0-9-]+==[\w.]+( ;|$)", pin)]
    again = [sys.executable, str(ROOT / "scripts" / "stock-envs")]
    made = subprocess.run(again, capture_output=True, text=True, timeout=60, check=True)
    assert made.stdout == ""


def test_only_warnings_and_worse_are_loud() -> None:
    """Loud lines are warnings, errors and tracebacks, but not the advice against being root."""
    lines = [
        "[2026-11-21 22:07:10,348: INFO/MainProcess] mingle: all alone",
        "[2026-11-21 22:07:10,348: WARNING/MainProcess] hm",
        "[2026-11-21 22:07:10,348: ERROR/ForkPoolWorker-1] oh",
        "Traceback (most recent call last):",
        "platforms.py:893: SecurityWarning: You're running the worker with superuser privileges",
        "somewhere.py:1: DeprecationWarning: old",
    ]
    assert loud_lines(lines) == [*lines[1:4], lines[5]]


async def test_a_scenario_is_read_back_from_its_trace(redis_url: str, redis: Redis) -> None:
    """One scenario against a live worker gives its message, its result and its events."""
    scenario = {"scenario": "success", "call": {"task": "rig.add", "args": [2, 3]}}
    async with (
        StockClient(NEWEST, redis_url) as client,
        StockWorker(NEWEST, redis_url, events=True, arguments=["--without-heartbeat"]),
        Monitor(redis_url) as monitor,
    ):
        entry = await run_scenario(scenario, client, monitor, redis)
        start = await monitor.settle()
        await client.inspect("ping", timeout=0.3)
        await monitor.settle()
        asked = trace(monitor.commands[start:])
    ((where, raw),) = messages(entry["trace"])
    assert (where, '"task": "rig.add"' in raw) == ("celery", True)
    assert [result["result"] for result in results(entry["trace"])] == [5]
    assert [event["type"] for event in events(entry["trace"])] == [
        "task-received", "task-started", "task-succeeded",
    ]  # fmt: skip
    assert [list(reply.values()) for reply in replies(asked)] == [[{"ok": "pong"}]]


async def test_the_monitor_sees_bytes_as_they_were(redis_url: str, redis: Redis) -> None:
    """Quotes, control characters and bytes that are no text come out of MONITOR unharmed."""
    odd = 'a"b\\c\r\n\t\x07\x00\x06\x16 grün'
    async with Monitor(redis_url) as monitor:
        await redis.set("key", odd)
        await redis.set("key", b"\xff\x00")
        await monitor.settle()
    words = [command.words for command in monitor.commands if command.words[0] == "SET"]
    assert words == [["SET", "key", odd], ["SET", "key", "\\xff\x00"]]


def test_the_monitor_keeps_to_its_database() -> None:
    """Lines of other databases and the server's own answers are not commands."""
    line = b'+1795298979.315270 [3 127.0.0.1:6379] "get" "key"\r\n'
    command = parse(line, 3)
    assert command is not None
    assert command.words == ["GET", "key"]
    assert parse(line, 4) is None
    assert parse(b"+OK\r\n", 3) is None

"""``/ready`` and ``/metrics`` about workers, claims and dead letters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from stock_rig.environments import PROJECT
from stock_rig.worker import StockWorker
from support.api_rig import ended, running_api
from support.migration_rig import LegacyInstallation, LocalExecutor, celery_worker, until
from support.worker_rig import crucible

from crucible.breaker import BreakerState, Circuit
from crucible.broker.claiming.liveness import (
    BUSY,
    CLAIMED,
    SERVICE_MS,
    SLOTS,
    Heartbeat,
    encode_heartbeat,
)
from crucible.broker.wire.encode import encode_task

if TYPE_CHECKING:
    import aiohttp
    from redis.asyncio import Redis


async def ready(client: aiohttp.ClientSession) -> dict[str, Any]:
    """The report, which is a 200."""
    async with client.get("/ready") as response:
        assert response.status == 200
        found: dict[str, Any] = await response.json()
    return found


async def metrics(client: aiohttp.ClientSession) -> dict[str, float]:
    """Every sample by its name and labels."""
    async with client.get("/metrics") as response:
        lines = [line for line in (await response.text()).splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_without_a_worker_the_service_is_degraded(redis_url: str) -> None:
    """What is accepted waits: a 200 that says so, until a worker is there and after it has left."""
    async with running_api(redis_url) as client:
        report = await ready(client)
        assert (report["ready"], report["status"], report["workers"]) == (True, "degraded", 0)
        assert not report["dependencies"]["workers"]["ok"]
        async with celery_worker(redis_url, LocalExecutor()):

            async def served() -> dict[str, Any] | None:
                found = await ready(client)
                return found if found["status"] == "ready" else None

            report = await until(served)
            assert (report["workers"], report["workers_connected"]) == (1, 1)
            assert report["dependencies"]["workers"] == {"ok": True}

            async def listening() -> bool:
                return bool((await ready(client))["workers"] == 1)

            assert await until(listening)
            counted = await metrics(client)
            assert (counted['workers{kind="async"}'], counted['workers{kind="stock"}']) == (1, 0)
        assert (await ready(client))["status"] == "degraded"


@pytest.mark.stock
async def test_a_stock_worker_serves(redis_url: str) -> None:
    """It leaves no sign of life on the server, and is counted by what it listens to."""
    worker = StockWorker(
        PROJECT, redis_url, queues=("evaluation",), pool="solo", concurrency=1,
        app="crucible.celery_app",
        environment={"CELERY_BROKER_URL": redis_url, "CRUCIBLE_EXECUTOR_URLS": "http://127.0.0.1:9"},
    )  # fmt: skip
    async with running_api(redis_url) as client, worker:
        report = await ready(client)
        assert (report["status"], report["workers"], report["workers_connected"]) == ("ready", 1, 0)
        counted = await metrics(client)
        assert (counted['workers{kind="async"}'], counted['workers{kind="stock"}']) == (0, 1)


async def test_sandboxes_of_all_workers_are_added_up(redis_url: str, redis: Redis) -> None:
    """As workers tell them with their sign of life; names nobody knows are no labels."""
    for number, idle in enumerate((2, 3)):
        gauges = {"idle": idle, "busy": 1, "made-up": 9, "lanes idle": 4, "lanes fresh": number}
        sign = Heartbeat(f"w{number}@test", gauges=gauges)
        await redis.zadd("crucible:workers", {f"w{number}": 1.0})
        await redis.set(f"crucible:worker:w{number}", encode_heartbeat(sign))
    async with running_api(redis_url) as client:
        counted = await metrics(client)
        report = await ready(client)
    assert counted['lanes{state="idle"}'] == 8
    assert counted['lanes{state="fresh"}'] == 1
    assert (report["sandboxes"]["idle"], report["lanes"]["idle"]) == (5, 8)
    assert counted['sandboxes{state="idle"}'] == 5
    assert counted['sandboxes{state="busy"}'] == 2
    assert counted['sandboxes{state="waiting"}'] == 0
    assert not any("made-up" in name for name in counted)


async def test_the_load_of_workers_is_added_up_and_leaves_with_them(
    redis_url: str, redis: Redis
) -> None:
    """One scrape of the api shows all workers; a dead one is gone with its heartbeat."""
    loads = ((4, 1, 3, 100), (12, 5, 9, 500))
    for number, (slots, busy, claimed, service_ms) in enumerate(loads):
        gauges = {SLOTS: slots, BUSY: busy, CLAIMED: claimed, SERVICE_MS: service_ms}
        await redis.zadd("crucible:workers", {f"w{number}": 1.0})
        sign = encode_heartbeat(Heartbeat(f"w{number}@test", gauges=gauges))
        await redis.set(f"crucible:worker:w{number}", sign)
    async with running_api(redis_url) as client:
        counted = await metrics(client)
        assert counted['worker_slots{state="busy"}'] == 6
        assert counted['worker_slots{state="idle"}'] == 10
        assert counted["worker_claimed_messages"] == 12
        assert counted["worker_service_seconds"] == pytest.approx(0.4)
        await redis.delete("crucible:worker:w1")
        counted = await metrics(client)
        assert counted['worker_slots{state="busy"}'] == 1
        assert counted["worker_service_seconds"] == pytest.approx(0.1)


async def test_a_worker_reports_its_load(redis_url: str) -> None:
    """Slots at once, the time a task takes after the first one."""
    async with running_api(redis_url) as client, celery_worker(redis_url, LocalExecutor()):
        await ended(client, {"code": "print(1)"})

        async def measured() -> bool:
            counted = await metrics(client)
            return "worker_service_seconds" in counted and counted['worker_slots{state="idle"}'] > 0

        assert await until(measured)


async def test_queues_are_shown_by_step_and_age(redis_url: str, redis: Redis) -> None:
    """By the names of the field and of the migration; what nothing says the age of is absent."""
    old = encode_task("x", task_id="1", queue="batch").replace(
        b'"properties": {', b'"properties": {"timestamp": %d, ' % (time.time() - 100)
    )
    await redis.lpush("batch", old)
    await redis.lpush("celery", encode_task("x", task_id="2"))
    async with running_api(redis_url) as client:
        async with client.post("/api/eval", json={"code": "1", "priority": 5}) as response:
            assert response.status == 202
        counted = await metrics(client)
    queues = ("batch", "celery", "evaluation")
    assert [counted[f'celery_queue_length{{queue="{name}"}}'] for name in queues] == [1, 1, 1]
    steps = [counted[f'queue_depth_by_step{{queue="evaluation",step="{n}"}}'] for n in (0, 3, 6, 9)]
    assert sorted(steps) == [0, 0, 0, 1]

    def age_s(queue: str) -> float | None:
        name = f'queue_oldest_age_seconds{{queue="{queue}",queue_system="celery"}}'
        return counted.get(name)

    assert 100 <= (age_s("batch") or 0) < 200
    assert 0 < (age_s("evaluation") or 0) < 60
    assert (age_s("celery"), age_s("maintenance")) == (None, 0)
    assert counted['tasks_submitted_total{queue_system="celery"}'] == 1
    assert (counted["celery_tasks_submitted_total"], counted["legacy_tasks_submitted_total"]) == (
        1,
        0,
    )


async def test_the_number_of_series_is_bounded(redis_url: str, redis: Redis) -> None:
    """Neither workers, nor what they say, nor tasks make series of their own."""
    names: list[set[str]] = []
    async with running_api(redis_url) as client:
        for workers in (200, 400):
            for number in range(workers):
                sign = Heartbeat(
                    f"w{number}@test",
                    circuits={f"executor-{number}": Circuit(BreakerState.OPEN)},
                    gauges={SLOTS: 1, SERVICE_MS: 1, f"made-up-{number}": 1},
                )
                await redis.zadd("crucible:workers", {f"w{number}": 1.0})
                await redis.set(f"crucible:worker:w{number}", encode_heartbeat(sign))
                await redis.lpush("evaluation", encode_task(f"t{number}", task_id=str(number)))
            names.append(set(await metrics(client)))
    assert names[0] == names[1]
    assert len(names[0]) < 500


@pytest.mark.docker
async def test_a_worker_tells_of_its_sandboxes(redis_url: str) -> None:
    """The pool of ``crucible worker`` is in the metrics of every api."""
    environment = {
        "CELERY_BROKER_URL": redis_url, "CRUCIBLE_POOL_MIN": "1", "CRUCIBLE_ISOLATION": "nested",
    }  # fmt: skip
    async with running_api(redis_url) as client, crucible(["worker"], **environment):

        async def filled() -> bool:
            counted = await metrics(client)
            return min(counted['sandboxes{state="idle"}'], counted['lanes{state="fresh"}']) >= 1

        await until(filled, timeout_s=60)


async def test_claims_and_dead_letters_are_gauges(redis_url: str, redis: Redis) -> None:
    """Read when they are scraped, in constant time."""
    await redis.hset("unacked", "x", "y")
    await redis.xadd("crucible:dlq", {"queue": "celery"})
    async with running_api(redis_url) as client:
        counted = await metrics(client)
    assert (counted["claimed_messages"], counted["dead_letters"]) == (1, 1)
    assert counted["http_connections"] == 1
    assert counted["http_held_bytes"] == 0
    assert counted['http_connection_faults_total{reason="tls"}'] == 0


@pytest.mark.parametrize(
    ("switches", "workers", "status"),
    [
        ({"celery_percentage": 0.0}, 1, "ready"),
        ({"celery_percentage": 0.0}, 0, "degraded"),
        ({"dual_write": True}, 1, "ready"),
        ({"celery_percentage": 0.5}, 1, "degraded"),
        ({"celery_percentage": 1.0}, 1, "degraded"),
    ],
)
async def test_the_mode_says_whose_workers_are_needed(
    redis_url: str, switches: dict[str, Any], workers: int, status: str
) -> None:
    """Those of the legacy queue, of Celery, or both; there are none of Celery here."""
    async with (
        LegacyInstallation(LocalExecutor(), workers) as legacy,
        running_api(redis_url, queue_service_url=legacy.url, **switches) as client,
    ):

        async def asked() -> bool:
            return legacy.queue.stats().idle_poll_s is not None if workers else True

        await until(asked)
        report = await ready(client)
        assert (report["ready"], report["status"]) == (True, status)

"""``crucible worker --autoscale`` and ``GET /api/v1/autoscale``."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING

from support.api_rig import running_api
from support.migration_rig import until
from support.worker_rig import START_S, async_worker, crucible

from crucible.broker import Publisher
from crucible.broker.claiming.liveness import CLAIMED, SERVICE_MS, SLOTS, Heartbeat
from crucible.broker.claiming.liveness import encode_heartbeat as encoded
from crucible.broker.wire.encode import TaskCall, encode_task

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

TASKS = ("--tasks", "support.scaled_tasks:registry", "--name", "w@here", "--concurrency", "4")
#: Tasks, and seconds one takes. One process alone would need 15 s, so that there is something left
#: to do once the others have started.
BURST, TASK_S = 5000, 0.012


async def test_a_burst_is_worked_off_and_the_workers_leave(redis_url: str, tmp_path: Path) -> None:
    """Up to four processes and back to one; each task is run once, however they come and go."""
    runs = tmp_path / "runs"
    worker = async_worker(
        redis_url, *TASKS, "--autoscale", "1,4", PYTHONPATH="tests", CRUCIBLE_AUTOSCALE_HOLD_S="2"
    )
    async with worker, Publisher.connect(redis_url) as publisher:
        await worker.wait_for_log(r"w-1@here is ready", START_S)
        call = TaskCall("scaled.note", [str(runs), TASK_S], queue="celery")
        sent = await publisher.send_batch([call] * BURST)
        await worker.wait_for_log(r"4 workers instead of \d", START_S)
        pids = await asyncio.gather(*(one.get(120) for one in sent))
        await worker.wait_for_log(r"1 workers instead of [234]", START_S)
        # One that came while others leave is run as well.
        last = await publisher.send_task("scaled.note", [str(runs), 0.0], queue="celery")
        await last.get(START_S)
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait(START_S) == 0
    assert len(set(pids)) > 1
    assert Counter(runs.read_text().split()) == Counter([one.id for one in (*sent, last)])


async def test_processes_are_replaced_without_a_gap(redis_url: str, tmp_path: Path) -> None:
    """After so many tasks a successor is ready first; nothing is lost, and nothing runs twice."""
    runs = tmp_path / "runs"
    worker = async_worker(redis_url, *TASKS, "--worker-max-tasks", "50", PYTHONPATH="tests")
    async with worker, Publisher.connect(redis_url) as publisher:
        await worker.wait_for_log(r"w-1@here is ready", START_S)
        call = TaskCall("scaled.note", [str(runs), 0.02], queue="celery")
        sent = await publisher.send_batch([call] * 60)
        first = set(await asyncio.gather(*(one.get(START_S) for one in sent)))
        assert len(first) == 1
        await worker.wait_for_log(r"w-2@here takes the place of w-1@here: it has run", START_S)
        # Some while both are there, some after the first has gone.
        sent += await publisher.send_batch([call] * 40)
        await worker.wait_for_log(r"w-2@here is ready", START_S)
        await worker.wait_for_log(r"w-1 \| .*stopping", START_S)
        last = [await publisher.send_task("scaled.note", [str(runs), 0.0], queue="celery")]
        assert await last[0].get(START_S) not in first
        await asyncio.gather(*(one.get(START_S) for one in sent))
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait(START_S) == 0
    assert Counter(runs.read_text().split()) == Counter([one.id for one in (*sent, *last)])


async def test_running_tasks_end_before_the_supervisor_does(
    redis_url: str, redis: Redis, tmp_path: Path
) -> None:
    """SIGTERM drains all processes."""
    runs = tmp_path / "runs"
    worker = async_worker(redis_url, *TASKS, "--autoscale", "2,2", PYTHONPATH="tests")
    async with worker, Publisher.connect(redis_url) as publisher:
        await worker.wait_for_log(r"w-1@here is ready", START_S)
        await worker.wait_for_log(r"w-2@here is ready", START_S)
        sent = [
            await publisher.send_task("scaled.note", [str(runs), 2.0], queue="celery")
            for _ in range(8)
        ]

        async def all_claimed() -> bool:
            return int(await redis.hlen("unacked")) == len(sent)

        await until(all_claimed)
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait(START_S) == 0
        assert len(await asyncio.gather(*(one.get(5) for one in sent))) == 8
    assert len(runs.read_text().split()) == 8


async def test_bounds_that_mean_nothing_are_refused(redis_url: str) -> None:
    """With what is wrong, before anything starts."""
    for bounds, reason in (("3,1", "MAX must be at least MIN"), ("many", "is not MIN,MAX")):
        async with crucible(["worker", "--autoscale", bounds]) as worker:
            assert await worker.wait(START_S) == 2
            assert reason in " ".join(worker.log.split())


async def test_the_api_says_how_many_workers_there_should_be(redis_url: str, redis: Redis) -> None:
    """For KEDA's ``metrics-api``: a number in JSON; the same number is a metric."""
    gauges = {SLOTS: 4, CLAIMED: 9, SERVICE_MS: 500}
    await redis.zadd("crucible:workers", {"w0": 1.0})
    await redis.set("crucible:worker:w0", encoded(Heartbeat("w0@test", gauges=gauges)))
    await redis.lpush("batch", *(encode_task("x", task_id=str(number)) for number in range(55)))
    async with running_api(redis_url, autoscale_max=7) as client:
        async with client.get("/api/v1/autoscale") as response:
            assert response.status == 200
            assert await response.json() == {
                "desired_workers": 6,
                "workers": 1,
                "waiting": 55,
                "claimed": 9,
                "oldest_age_s": 0.0,
                "service_s": 0.5,
                "min_workers": 1,
                "max_workers": 7,
            }
        async with client.get("/metrics") as response:
            assert "\ncrucible_desired_workers 6.0\n" in await response.text()
        await redis.delete("batch")
        async with client.get("/api/v1/autoscale") as response:
            # Not yet fewer: they are wanted for a minute more.
            assert (await response.json())["desired_workers"] == 6

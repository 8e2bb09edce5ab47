"""Stock workers and Flower on a queue server with sentinels, through a failover."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from stock_rig.environments import PROJECT
from stock_rig.flower import Flower
from support.worker_rig import stock_worker

from benchmarks.chaos.sentinel.cluster import SentinelCluster
from crucible.broker import Publisher
from crucible.errors import BrokerUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from crucible.broker import TaskResult

#: Seconds in which stock workers reconnect; they try every second or two.
FOLLOW_S = 90.0


async def _sent(publisher: Publisher) -> TaskResult:
    """A task that needs no sandbox, sent again until a master takes it."""
    while True:
        with suppress(BrokerUnavailable):
            return await publisher.send_task("tasks.health_check", queue="maintenance")
        await asyncio.sleep(0.1)


@pytest.mark.stock
async def test_stock_workers_and_flower_follow_the_master(tmp_path: Path) -> None:
    """The shipped application hands the sentinels and the master's name on to Celery."""
    async with SentinelCluster(tmp_path) as cluster:
        environment = {"CELERY_BROKER_URL": cluster.url}
        async with (
            stock_worker(cluster.url, pool="threads") as worker,
            Flower(
                cluster.url, PROJECT, app="crucible.celery_app", environment=environment
            ) as flower,
            Publisher.connect(cluster.url, replicas=1) as publisher,
        ):
            await (await _sent(publisher)).get(timeout=FOLLOW_S)
            await flower.until_worker(worker.node, timeout=FOLLOW_S)
            killed = await cluster.kill_master()
            await (await _sent(publisher)).get(timeout=FOLLOW_S)
            await cluster.revive(killed)
            await flower.until(
                "/api/workers",
                lambda workers: bool(workers.get(worker.node, {}).get("stats")),
                FOLLOW_S,
                refresh="true",
                workername=worker.node,
            )
            task = await _sent(publisher)
            await task.get(timeout=FOLLOW_S)

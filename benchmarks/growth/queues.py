"""Workers on one queue server: by queue depth, by tenants, by processes."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from benchmarks.budget_paths import processor_s
from benchmarks.driven import Driven
from benchmarks.growth.lines import Point, Series, rate_of
from benchmarks.growth.part import Cost, by_size, median_of
from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.growth.part import Effort

DEPTHS = (1_000, 10_000, 100_000, 300_000, 1_000_000, 3_000_000)
TENANTS = (1, 10, 100, 1_000, 10_000)
PROCESSES = (1, 2, 4, 8, 16, 32, 64)
#: Tasks of one measurement, and measurements of one size.
TASKS, TURNS = 10_000, 3
#: Seconds that the deepest queue may take to fill; the part's own time is shorter by default.
FILL_S = 900.0
WORKER, SERVER = "worker, us a task", "queue server, us a task"


async def depth(effort: Effort) -> list[Series]:
    """Processor time of a task with so many messages behind it."""

    async def of(size: int) -> Sequence[float]:
        return await _costs(effort, size, 1)

    sizes = effort.of("depth", DEPTHS, 100_000)
    costs = (Cost(WORKER, "flat"), Cost(SERVER, "flat"))
    return await by_size(effort, "depth", "messages queued", sizes, costs, of)


async def tenants(effort: Effort) -> list[Series]:
    """Processor time of a task where the queue has those of so many tenants in turns."""

    async def of(size: int) -> Sequence[float]:
        return await _costs(effort, 1_000, size)

    sizes = effort.of("tenants", TENANTS, 1_000)
    costs = (Cost(WORKER, "flat"), Cost(SERVER, "flat"))
    return await by_size(effort, "tenants", "tenants", sizes, costs, of)


async def _costs(effort: Effort, queued: int, of_tenants: int) -> Sequence[float]:
    """Median processor time of worker and queue server, microseconds a task."""
    count = effort.count(TASKS, 200)
    async with (
        EmbeddedServer(effort.directory / f"q{queued}-{of_tenants}", durable=False) as server,
        Driven("growth_worker", job={"redis": server.url}) as worker,
    ):
        await worker.run(fill=queued, count=0, tenants=of_tenants, seconds=FILL_S)

        async def measure() -> Sequence[float]:
            await worker.run(fill=count, count=0, tenants=of_tenants)
            began_s = processor_s(server.pid)
            answer = await worker.run(count=count)
            return answer["worker_us"], 1e6 * (processor_s(server.pid) - began_s) / count

        return await median_of(TURNS, measure)


async def workers(effort: Effort) -> list[Series]:
    """Tasks a second by worker processes: up to the processors here, and calculated beyond."""
    here = [size for size in PROCESSES if size <= max(2, os.cpu_count() or 1)]

    async def of(size: int) -> Sequence[float]:
        return [await _rate(effort, size)]

    sizes = effort.of("workers", here, here[-1])
    measured = await by_size(
        effort, "workers", "worker processes", sizes, [Cost("tasks a second", "proportional")], of
    )
    effort.progress("workers: costs of one process")
    worker_us, server_us = await _costs(effort, 1_000, 1)
    what = "tasks a second, a processor for each process"
    points = [Point(size, rate_of(size, worker_us, server_us)) for size in PROCESSES]
    return [
        *measured,
        Series("workers", "worker processes", what, "proportional", points, [], False),
    ]


async def _rate(effort: Effort, processes: int) -> float:
    """Tasks a second of so many processes together."""
    count = effort.count(TASKS, 200)
    async with AsyncExitStack() as stack:
        directory = effort.directory / f"w{processes}"
        server = await stack.enter_async_context(EmbeddedServer(directory, durable=False))
        driven = [
            await stack.enter_async_context(Driven("growth_worker", job={"redis": server.url}))
            for _ in range(processes)
        ]
        # Twice of what they take, so that the queue is long until the last one has its share.
        await driven[0].run(fill=2 * processes * count, count=0)
        answers = await asyncio.gather(*(one.run(count=count) for one in driven))
        return float(sum(answer["tasks_per_s"] for answer in answers))

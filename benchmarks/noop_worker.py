"""No-op tasks through one async worker: rate, and CPU time per task of the worker's process.

``python benchmarks/noop_worker.py [COUNT]`` starts a server of its own on a free port.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from redis.asyncio import Redis

from crucible.broker.wire.encode import TaskTemplate
from crucible.embedded.server import EmbeddedServer
from crucible.worker.registry import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from crucible.worker.context import TaskContext

BATCH = 1000
registry = TaskRegistry()


@registry.task("bench.noop")
async def noop(ctx: TaskContext) -> None:
    """Nothing."""


async def fill(url: str, count: int) -> None:
    """Queue ``count`` messages as a stock producer writes them."""
    template = TaskTemplate("bench.noop")
    async with Redis.from_url(url) as redis:
        for first in range(0, count, BATCH):
            batch = [template.render(f"id-{first + number}", [], {}) for number in range(BATCH)]
            await redis.lpush("celery", *batch)


async def measure(count: int) -> dict[str, float]:
    """Run a worker until it has settled ``count`` queued messages."""
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory), durable=False) as server:
            await fill(server.url, count)
            began, cpu = time.perf_counter(), time.process_time()
            async with Worker(registry, broker_url=server.url) as worker:
                while worker.settled < count:
                    await asyncio.sleep(0.005)
                wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return {
        "tasks": count,
        "tasks_per_s": round(count / wall_s),
        "worker_cpu_us_per_task": round(cpu_s / count * 1e6, 1),
        "tasks_per_cpu_s": round(count / cpu_s),
        "memory_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(measure(int([*sys.argv, "50000"][1])))) + "\n")

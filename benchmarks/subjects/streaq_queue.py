"""streaQ: enqueueing in batches, and its worker in two processes."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from command import Command, script
from wire import watch

BATCH = 1000
_job: dict[str, Any] = {}
_workers: list[Command] = []


def setup(job: dict[str, Any]) -> None:
    """Remember where to connect."""
    _job.update(job)
    os.environ["QUEUE_URL"] = job["redis"]


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Enqueue for some seconds, or work through a number of tasks."""
    from streaq_noop import noop, worker

    async with worker:
        if job["what"] == "enqueue":
            started, sent = time.perf_counter(), 0
            while time.perf_counter() - started < job["seconds"]:
                await worker.enqueue_many([noop.enqueue(n) for n in range(BATCH)])
                sent += BATCH
            return {"sent": sent, "elapsed_s": time.perf_counter() - started}
        for _ in range(0, job["count"], BATCH):
            await worker.enqueue_many([noop.enqueue(n) for n in range(BATCH)])
    _workers.append(
        Command(
            *(script("streaq"), "run", "streaq_noop:worker", "--workers", "2"),
            QUEUE_URL=_job["redis"],
            PYTHONPATH=".",
        )
    )
    # The stream's name as the library has it: the default differs between versions.
    left = (("XLEN", worker.stream_key + worker.priorities[-1]),)
    return {
        "samples": await asyncio.to_thread(
            watch, _job["redis"], left, _workers[0].check, job["seconds"]
        )
    }


def teardown(job: dict[str, Any]) -> None:
    """Stop the worker."""
    for worker in _workers:
        worker.stop()

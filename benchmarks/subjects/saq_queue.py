"""SAQ: enqueueing, and its worker in two processes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from command import Command, script
from saq import Queue
from wire import watch

AT_ONCE = 100
_job: dict[str, Any] = {}
_workers: list[Command] = []
_LEFT = (("ZCARD", "saq:default:incomplete"),)
_queue: Any = None


async def setup(job: dict[str, Any]) -> None:
    """Connect."""
    global _queue
    _job.update(job)
    _queue = Queue.from_url(job["redis"])
    await _queue.connect()


async def _fill(count: int) -> None:
    for start in range(0, count, AT_ONCE):
        await asyncio.gather(
            *(_queue.enqueue("noop", value=n) for n in range(start, start + AT_ONCE))
        )


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Enqueue for some seconds, or work through a number of jobs."""
    if job["what"] == "enqueue":
        started, sent = time.perf_counter(), 0
        while time.perf_counter() - started < job["seconds"]:
            await _fill(AT_ONCE)
            sent += AT_ONCE
        return {"sent": sent, "elapsed_s": time.perf_counter() - started}
    await _fill(job["count"])
    _workers.append(
        Command(
            *(script("saq"), "saq_noop.settings", "--workers", "2"),
            QUEUE_URL=_job["redis"],
            PYTHONPATH=".",
        )
    )
    return {
        "samples": await asyncio.to_thread(
            watch, _job["redis"], _LEFT, _workers[0].check, job["seconds"]
        )
    }


async def teardown(job: dict[str, Any]) -> None:
    """Stop the worker and disconnect."""
    for worker in _workers:
        worker.stop()
    await _queue.disconnect()

"""taskiq on Redis streams: enqueueing, and its worker in two processes."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from command import Command, script
from wire import watch

AT_ONCE = 100
_job: dict[str, Any] = {}
_workers: list[Command] = []


def setup(job: dict[str, Any]) -> None:
    """Remember where to connect."""
    _job.update(job)
    os.environ["QUEUE_URL"] = job["redis"]


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Enqueue for some seconds, or work through a number of tasks."""
    from taskiq_noop import broker, noop

    await broker.startup()
    try:
        started, sent = time.perf_counter(), 0
        count = job.get("count", 0)
        while sent < count or (not count and time.perf_counter() - started < job["seconds"]):
            await asyncio.gather(*(noop.kiq(n) for n in range(AT_ONCE)))
            sent += AT_ONCE
        if job["what"] == "enqueue":
            return {"sent": sent, "elapsed_s": time.perf_counter() - started}
    finally:
        await broker.shutdown()
    _workers.append(
        Command(
            *(script("taskiq"), "worker", "taskiq_noop:broker", "--workers", "2"),
            *("--log-level", "WARNING"),
            QUEUE_URL=_job["redis"],
            PYTHONPATH=".",
        )
    )

    def left_of(keys: int) -> int:
        # Entries stay in the stream, so results are counted instead: keys beside stream and group.
        return sent - (keys - 1)

    see = (_job["redis"], (("DBSIZE",),), _workers[0].check, job["seconds"])
    return {"samples": await asyncio.to_thread(lambda: watch(*see, left_of=left_of))}


def teardown(job: dict[str, Any]) -> None:
    """Stop the worker."""
    for worker in _workers:
        worker.stop()

"""``Publisher`` in one process: a batch at a time, or many single sends at once."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from crucible.broker import Publisher, TaskCall

BATCH = 1000
AT_ONCE = 100
_stack = AsyncExitStack()
_publisher: Publisher


async def setup(job: dict[str, Any]) -> None:
    """Connect, and send once."""
    global _publisher
    _publisher = await _stack.enter_async_context(Publisher.connect(job["redis"]))
    await _publisher.send_task("bench.noop", args=[0])


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Send for some seconds; each round is confirmed before the next starts."""
    started, sent = time.perf_counter(), 0
    while time.perf_counter() - started < job["seconds"]:
        if job.get("single"):
            await asyncio.gather(
                *(_publisher.send_task("bench.noop", args=[n]) for n in range(AT_ONCE))
            )
            sent += AT_ONCE
        else:
            await _publisher.send_batch([TaskCall("bench.noop", [n]) for n in range(BATCH)])
            sent += BATCH
    return {"sent": sent, "elapsed_s": time.perf_counter() - started}


async def teardown(job: dict[str, Any]) -> None:
    """Hang up."""
    await _stack.aclose()

"""An open loop of calls, for subjects that generate their own load."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from benchmarks.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def open_loop(call: Callable[[], Awaitable[None]], job: dict[str, Any]) -> dict[str, Any]:
    """Call ``rate`` times a second for ``seconds``; each latency runs from when it was due."""
    rate, latency, started = job["rate"], Histogram(), time.perf_counter()

    async def one(due: float) -> None:
        await call()
        latency.record(time.perf_counter() - due)

    async with asyncio.TaskGroup() as group:
        for number in range(max(1, int(rate * job["seconds"]))):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))
    return {"sent": latency.count, "latency": latency.dump()}

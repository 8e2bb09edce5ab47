"""A historian that writes what is on the event bus."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.history_events import EVENTS
from crucible.breaker import BreakerPolicy
from crucible.history.historian import Historian, open_historian
from crucible.redis_keys import Keys
from crucible.settings import load_settings

#: Seconds between two looks at what is written.
_LOOK_S = 0.02
_stack: AsyncExitStack
_historian: Historian


async def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Connect; nothing is read before ``run``."""
    global _stack, _historian
    _stack = AsyncExitStack()
    count = load_settings({}).history_batch
    _historian = await _stack.enter_async_context(
        open_historian(job["database"], job["redis"], Keys(), count=count, policy=BreakerPolicy())
    )
    return {"pid": os.getpid()}


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Write so many evaluations more, and sample the lag meanwhile; nothing is read afterwards."""
    stop = asyncio.Event()
    target = _historian.state.written + job["evaluations"] * EVENTS
    lags, began, used = [], time.perf_counter(), time.process_time()
    running = asyncio.create_task(_historian.run(stop))
    while _historian.state.written < target:
        if running.done():
            running.result()
        if job["lag"]:
            lags.append(await _historian.lag_s())
        await asyncio.sleep(_LOOK_S)
    answer = {
        "elapsed_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - used,
        "lags_s": lags,
    }
    stop.set()
    await running
    return answer


async def teardown(job: dict[str, Any]) -> None:
    await _stack.aclose()

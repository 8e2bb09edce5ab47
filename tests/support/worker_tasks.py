"""Tasks for real worker processes: ``crucible worker --tasks support.worker_tasks``."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from crucible.worker.registry import TaskRegistry

if TYPE_CHECKING:
    from crucible.worker.context import TaskContext

registry = TaskRegistry()


@registry.task("rig.add")
async def add(ctx: TaskContext, x: int, y: int) -> int:
    """A sum."""
    return x + y


@registry.task("rig.hold", track_started=True)
async def hold(ctx: TaskContext, seconds: float) -> int:
    """Wait, then return the worker's process id."""
    await asyncio.sleep(seconds)
    return os.getpid()


@registry.task("rig.block", track_started=True)
def block(ctx: TaskContext, seconds: float) -> int:
    """Block a thread, which cannot be stopped."""
    time.sleep(seconds)
    return os.getpid()


@registry.task("rig.again", max_retries=5)
async def again(ctx: TaskContext, times: int) -> int:
    """Retry a number of times, then return the number of retries."""
    if ctx.retries < times:
        raise ctx.retry(countdown=0.2)
    return ctx.retries


@registry.task("rig.die")
async def die(ctx: TaskContext) -> None:
    """Kill the worker."""
    os.kill(os.getpid(), 9)

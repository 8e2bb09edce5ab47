"""The chaos test's tasks as async tasks; ``stock_app`` has the same for stock workers."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.chaos.ledger import URL_VARIABLE, WORKER_VARIABLE, Ledger, new_run, open_client
from benchmarks.chaos.records import Ended, Ready, Started
from benchmarks.chaos.values import epoch, flattened
from crucible.worker import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.worker import TaskContext

_WORKER = os.environ.get(WORKER_VARIABLE, "")


@asynccontextmanager
async def _open_ledger() -> AsyncIterator[Ledger]:
    async with open_client(os.environ[URL_VARIABLE]) as client:
        ledger = Ledger(client)
        await ledger.write(Ready(_WORKER, os.getpid(), time.time()))
        yield ledger


registry = TaskRegistry(lifespan=_open_ledger)


async def _start(ctx: TaskContext, at: float) -> str:
    run = new_run()
    eta = epoch(ctx.headers.get("eta"))
    await ctx.state.write(Started(run, ctx.id, ctx.retries, _WORKER, os.getpid(), at, eta))
    return run


@registry.task("chaos.work")
async def work(ctx: TaskContext, *got: Any, seconds: float = 0.0) -> str:
    """Take ``seconds``; return the task's id."""
    run = await _start(ctx, time.time())
    if seconds:
        await asyncio.sleep(seconds)
    await ctx.state.write(Ended(run, time.time(), got=flattened(got)))
    return ctx.id


@registry.task("chaos.flaky", max_retries=None)
async def flaky(ctx: TaskContext, *, times: int, countdown: float) -> str:
    """Retry ``times`` times."""
    run = await _start(ctx, time.time())
    again = ctx.retries < times
    await ctx.state.write(Ended(run, time.time(), retry=again))
    if again:
        raise ctx.retry(countdown=countdown)
    return ctx.id

"""The chaos test's tasks as async tasks; ``stock_app`` has the same for stock workers."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.chaos.ledger import URL_VARIABLE, WORKER_VARIABLE, Ledger, new_run, open_client
from benchmarks.chaos.records import Ended, Ready, Started
from benchmarks.chaos.values import epoch, flattened
from crucible.errors import ExecutorUnavailable
from crucible.executor import ExecutorConfig, open_executor
from crucible.models import Limits, Program, Verdict
from crucible.worker import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor import Executor
    from crucible.models import Isolation
    from crucible.worker import TaskContext

_WORKER = os.environ.get(WORKER_VARIABLE, "")


#: No sandbox is made before a program asks for one: most workers are killed within seconds.
_EXECUTOR = ExecutorConfig(pool_min=0, pool_max=4, lanes_max=4)
#: Seconds until a program that the platform could not run is tried again.
_AGAIN_S = 1.0
_LIMITS = Limits(wall_time_s=30.0)


@dataclass(frozen=True, slots=True)
class State:
    """What the tasks use.

    Attributes:
        ledger: they record there what they do.
        executor: runs their programs.
    """

    ledger: Ledger
    executor: Executor


@asynccontextmanager
async def _open() -> AsyncIterator[State]:
    async with (
        open_client(os.environ[URL_VARIABLE]) as client,
        open_executor(_EXECUTOR) as executor,
    ):
        ledger = Ledger(client)
        await ledger.write(Ready(_WORKER, os.getpid(), time.time()))
        yield State(ledger, executor)


registry = TaskRegistry(lifespan=_open)


async def _start(ctx: TaskContext, at: float) -> str:
    run = new_run()
    eta = epoch(ctx.headers.get("eta"))
    await ctx.state.ledger.write(Started(run, ctx.id, ctx.retries, _WORKER, os.getpid(), at, eta))
    return run


@registry.task("chaos.work")
async def work(ctx: TaskContext, *got: Any, seconds: float = 0.0) -> str:
    """Take ``seconds``; return the task's id."""
    run = await _start(ctx, time.time())
    if seconds:
        await asyncio.sleep(seconds)
    await ctx.state.ledger.write(Ended(run, time.time(), got=flattened(got)))
    return ctx.id


@registry.task("chaos.flaky", max_retries=None)
async def flaky(ctx: TaskContext, *, times: int, countdown: float) -> str:
    """Retry ``times`` times."""
    run = await _start(ctx, time.time())
    again = ctx.retries < times
    await ctx.state.ledger.write(Ended(run, time.time(), retry=again))
    if again:
        raise ctx.retry(countdown=countdown)
    return ctx.id


@registry.task("chaos.program", max_retries=None)
async def program(ctx: TaskContext, *, isolation: Isolation) -> str:
    """Run a program that prints the task's id.

    Raises:
        RuntimeError: it printed something else, or did not come to its own end.
    """
    run = await _start(ctx, time.time())
    asked = Program(
        language="python", code=f"print({ctx.id!r})", isolation=isolation, limits=_LIMITS
    )
    try:
        outcome = await ctx.state.executor.run(asked)
    except ExecutorUnavailable as error:
        await ctx.state.ledger.write(Ended(run, time.time(), retry=True))
        raise ctx.retry(countdown=_AGAIN_S, exc=error) from error
    if (outcome.verdict, outcome.stdout) != (Verdict.OK, f"{ctx.id}\n".encode()):
        raise RuntimeError(f"{isolation}: {outcome}")
    await ctx.state.ledger.write(Ended(run, time.time()))
    return ctx.id

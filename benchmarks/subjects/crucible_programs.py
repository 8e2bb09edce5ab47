"""The executor in this process: its own processor time for each program, without the engine's."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from typing import Any

from crucible.executor import Executor, ExecutorConfig, open_executor
from crucible.models import Program

_stack = AsyncExitStack()
_executor: Executor
_program = Program(language="python", code="print(6 * 7)")


async def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Open it, and run a few programs so that one-time costs are not measured."""
    global _executor, _program
    isolation = job["isolation"]
    _program = Program(language="python", code="print(6 * 7)", isolation=isolation, tenant="budget")
    _executor = await _stack.enter_async_context(
        open_executor(ExecutorConfig(isolation=isolation, pool_min=2))
    )
    await run({"count": 4})
    return {"pid": os.getpid()}


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run so many programs, two at a time; processor seconds of all."""
    began, left = time.process_time(), iter(range(job["count"]))

    async def one_by_one() -> None:
        for _ in left:
            outcome = await _executor.run(_program)
            if outcome.stdout != b"42\n":
                raise RuntimeError(f"wrong answer: {outcome}")

    await asyncio.gather(one_by_one(), one_by_one())
    return {"count": job["count"], "cpu_s": time.process_time() - began}


async def teardown(job: dict[str, Any]) -> None:
    """Close it, which removes its containers."""
    await _stack.aclose()

"""The executor alone: programs in fresh containers, with or without a warm pool."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.subjects.open_loop import open_loop
from crucible.executor import Executor, ExecutorConfig, open_executor
from crucible.executor.hooks import NoHooks, SandboxTaken
from crucible.models import Program

_stack = AsyncExitStack()
_executor: Executor
_job: dict[str, Any] = {}
_numbers = itertools.count()
#: Seconds that a long program sleeps.
LONG_S = 0.5


class Taken(NoHooks):
    """Counts programs that got a container, and those that had to wait for one."""

    def __init__(self) -> None:
        self.programs = self.misses = 0

    def sandbox_taken(self, details: SandboxTaken) -> None:
        self.programs += 1
        self.misses += not details.hit


_taken = Taken()


async def setup(job: dict[str, Any]) -> None:
    """Open it, and run one program so that one-time costs are not measured."""
    global _executor
    _job.update(job)
    config = ExecutorConfig(**job.get("config", {}))
    _executor = await _stack.enter_async_context(open_executor(config, _taken))
    await _one()


async def _one() -> None:
    number = next(_numbers)
    sleep = number and number % _job.get("long_one_in", number + 1) == 0
    program = Program(
        language="python",
        code=f"import time; time.sleep({LONG_S}); print(6 * 7)" if sleep else "print(6 * 7)",
        tenant=f"bench-{number % _job.get('tenants', 1)}",
        **_job.get("program", {}),
    )
    outcome = await _executor.run(program)
    if outcome.stdout != b"42\n":
        raise RuntimeError(f"wrong answer: {outcome}")


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run programs for some seconds: with a fixed concurrency, or at a given rate."""
    if job.get("rate"):
        _taken.programs = _taken.misses = 0
        answer = await open_loop(_one, job)
        return answer | {"miss_share": _taken.misses / max(1, _taken.programs)}
    started = time.perf_counter()
    until = started + job["seconds"]

    async def lane() -> int:
        done = 0
        while time.perf_counter() < until:
            await _one()
            done += 1
        return done

    counts = await asyncio.gather(*(lane() for _ in range(_job.get("at_once", 4))))
    return {"sent": sum(counts), "elapsed_s": time.perf_counter() - started}


async def teardown(job: dict[str, Any]) -> None:
    """Close it, which removes its containers."""
    await _stack.aclose()

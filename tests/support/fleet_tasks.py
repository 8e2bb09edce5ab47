"""Tasks for tests of events and remote control, with the names of the stock rig's tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crucible.worker import Reject, TaskRegistry

if TYPE_CHECKING:
    from crucible.worker import TaskContext

registry = TaskRegistry()
#: Events that ``rig.gate`` waits for, by name; set by tests in the worker's own process.
gates: dict[str, asyncio.Event] = {}


@registry.task("rig.add")
async def add(ctx: TaskContext, x: Any, y: Any) -> Any:
    return x + y


@registry.task("rig.slow", track_started=True)
async def slow(ctx: TaskContext, seconds: float, **_: Any) -> str:
    await asyncio.sleep(seconds)
    return "slow"


@registry.task("rig.gate")
async def gate(ctx: TaskContext, name: str) -> str:
    await gates[name].wait()
    return name


@registry.task("rig.fail")
async def fail(ctx: TaskContext, kind: str = "value") -> None:
    raise ValueError("bang", 42)


@registry.task("rig.retry_then_ok", max_retries=5)
async def retry_then_ok(ctx: TaskContext, failures: int = 1, countdown: float = 0.05) -> int:
    if ctx.retries < failures:
        raise ctx.retry(exc=ValueError("not yet"), countdown=countdown)
    return ctx.retries


@registry.task("rig.reject")
async def reject(ctx: TaskContext, requeue: bool = False) -> str:
    if not ctx.delivery_info["redelivered"]:
        raise Reject("no", requeue=requeue)
    return "second time"

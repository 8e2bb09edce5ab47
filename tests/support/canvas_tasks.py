"""The tasks of the stock rig's application, as async tasks, and some that send others."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.signature import signature
from crucible.worker import Reject, TaskRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.worker import TaskContext

registry = TaskRegistry()


@registry.task("rig.add")
async def add(ctx: TaskContext, x: Any, y: Any) -> Any:
    """The sum of two."""
    return x + y


@registry.task("rig.mul")
async def mul(ctx: TaskContext, x: Any, y: Any) -> Any:
    """The product of two."""
    return x * y


@registry.task("rig.xsum")
def xsum(ctx: TaskContext, numbers: list[Any]) -> Any:
    """The sum of a list; the body of chords."""
    return sum(numbers)


@registry.task("rig.echo")
async def echo(ctx: TaskContext, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The value that was passed."""
    return {"args": list(args), "kwargs": kwargs}


@registry.task("rig.sleep")
async def sleep(ctx: TaskContext, seconds: float, value: Any = None) -> Any:
    """``value`` after ``seconds``."""
    await asyncio.sleep(seconds)
    return value


_FAILURES: dict[str, Callable[[], BaseException]] = {
    "value": lambda: ValueError("bang", 42),
    "key": lambda: KeyError("missing"),
    "empty": lambda: RuntimeError(),
    "reject": lambda: Reject("no", requeue=False),
}


@registry.task("rig.fail")
async def fail(ctx: TaskContext, kind: str = "value") -> None:
    """Raises the exception named ``kind``."""
    raise _FAILURES[kind]()


@registry.task("rig.retry_then_ok", max_retries=5)
async def retry_then_ok(ctx: TaskContext, failures: int = 1, countdown: float = 0.05) -> int:
    """Retries ``failures`` times, then returns the count of retries."""
    if ctx.retries < failures:
        raise ctx.retry(exc=ValueError("not yet"), countdown=countdown)
    return ctx.retries


@registry.task("rig.ignored", ignore_result=True)
async def ignored(ctx: TaskContext, value: Any = None) -> Any:
    """A task whose result is ignored."""
    return value


@registry.task("rig.spawn")
async def spawn(ctx: TaskContext, value: int) -> str:
    """Sends another task from inside a task and returns its id."""
    return await ctx.send("rig.add", (value, 1))


@registry.task("rig.replaced")
async def replaced(ctx: TaskContext, x: int, y: int) -> Any:
    """Is replaced by ``rig.add``."""
    raise ctx.replace(signature("rig.add", (x, y)))


@registry.task("rig.replaced_by")
async def replaced_by(ctx: TaskContext, work: dict[str, Any]) -> Any:
    """Is replaced by a signature."""
    raise ctx.replace(work)


@registry.task("rig.grow_chord")
async def grow_chord(ctx: TaskContext, value: int) -> int:
    """Adds a part to its own chord."""
    await ctx.add_to_chord(signature("rig.add", (value, 100)))
    return value


@registry.task("rig.on_error")
async def on_error(ctx: TaskContext, failed_id: str) -> str:
    """An errback that takes the failed task's id, and so is sent as a task."""
    return failed_id


#: Calls of errbacks in this process: id, exception.
errback_calls: list[tuple[str, str]] = []


@registry.task("rig.on_error_inline")
async def on_error_inline(
    ctx: TaskContext, request: Any, exc: BaseException, traceback: str | None
) -> None:
    """An errback that takes three arguments, and so is called in the worker."""
    errback_calls.append((request.id, repr(exc)))


@registry.task("rig.on_error_raises")
async def on_error_raises(
    ctx: TaskContext, request: Any, exc: BaseException, traceback: str | None
) -> None:
    """An errback that is called in the worker and fails there."""
    raise RuntimeError("the errback itself")


#: Events that ``rig.gate`` waits for, by name; set by tests.
gates: dict[str, asyncio.Event] = {}


@registry.task("rig.gate")
async def gate(ctx: TaskContext, name: str) -> int:
    """1, once the gate is open."""
    await gates[name].wait()
    return 1


@registry.task("rig.die")
async def die(ctx: TaskContext) -> None:
    """Kills the worker."""
    os.kill(os.getpid(), signal.SIGKILL)

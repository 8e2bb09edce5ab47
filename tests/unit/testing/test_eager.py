"""Tasks that run where they are called."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from crucible.broker.canvas.signature import chain, chord, group, signature
from crucible.testing import Eager
from crucible.worker import TaskContext, TaskRegistry
from crucible.worker.exceptions import NotRegistered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

opened: list[str] = []


@asynccontextmanager
async def lifespan() -> AsyncIterator[str]:
    opened.append("open")
    yield "state"
    opened.append("closed")


registry = TaskRegistry(lifespan)


@registry.task("t.add")
async def add(ctx: TaskContext, x: int, y: int) -> int:
    await ctx.update_state("PROGRESS", {"done": 1})
    return x + y


@registry.task("t.total")
def total(ctx: TaskContext, numbers: list[int]) -> int:
    return sum(numbers)


@registry.task("t.flaky", max_retries=2)
async def flaky(ctx: TaskContext, good_at: int) -> int:
    if ctx.retries < good_at:
        raise ctx.retry(exc=ValueError("not yet"), countdown=60)
    return ctx.retries


@registry.task("t.replaced")
async def replaced(ctx: TaskContext) -> Any:
    raise ctx.replace(chain(signature("t.add", [1, 2]), signature("t.add", [10])))


@registry.task("t.sends")
async def sends(ctx: TaskContext) -> list[Any]:
    return [await ctx.send("t.add", [2, 3]), ctx.state, ctx.delivery_info["routing_key"]]


async def test_tasks_and_their_lifespan() -> None:
    """A plain function and a coroutine; what they say of themselves is kept."""
    opened.clear()
    async with Eager(registry) as eager:
        assert await eager.run("t.add", [1], {"y": 2}) == 3
        assert eager.contexts[-1].states == [("PROGRESS", {"done": 1})]
        assert await eager.run("t.total", [[1, 2, 3]]) == 6
        task_id, state, queue = await eager.run("t.sends")
        assert (eager.results[task_id], state, queue) == (5, "state", "celery")
        assert opened == ["open"]
        with pytest.raises(NotRegistered):
            await eager.run("t.none")
        with pytest.raises(TypeError):
            await eager.run("t.add", [object(), 1])
    assert opened == ["open", "closed"]


async def test_retries_come_at_once() -> None:
    """And end as they would in a worker."""
    async with Eager(registry) as eager:
        assert await eager.run("t.flaky", [2]) == 2
        assert [context.retries for context in eager.contexts] == [0, 1, 2]
        with pytest.raises(ValueError, match="not yet"):
            await eager.run("t.flaky", [3])


async def test_canvases() -> None:
    """Results go from step to step."""
    async with Eager(registry) as eager:
        assert await eager.run("t.replaced") == 13
        parts = [signature("t.add", [n, n]) for n in range(3)]
        assert await eager.run_canvas(group(parts)) == [0, 2, 4]
        assert await eager.run_canvas(chord(parts, signature("t.total"))) == 6
        alone = signature("t.add", [1, 1], immutable=True)
        assert await eager.run_canvas(chain(parts[0], alone)) == 2

"""Two workers on one queue share what there is to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.fleet_rig import send, until

from crucible.worker.registry import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.worker.context import TaskContext


def registry_of(name: str, ran: list[str], held: dict[str, list[str]], end: asyncio.Event) -> (
    TaskRegistry
):  # fmt: skip
    """Tasks that note where they run."""
    registry = TaskRegistry()

    @registry.task("two.short")
    async def short(ctx: TaskContext) -> None:
        ran.append(name)

    @registry.task("two.long")
    async def long(ctx: TaskContext) -> None:
        held[name].append(ctx.id)
        await end.wait()

    return registry


async def test_long_tasks_after_a_burst_are_shared_at_once(redis: Redis, redis_url: str) -> None:
    """Sixteen long tasks after a burst of short ones: four run at each worker, eight are free."""
    ran: list[str] = []
    held: dict[str, list[str]] = {"a": [], "b": []}
    end = asyncio.Event()
    a, b = (
        Worker(registry_of(name, ran, held, end), broker_url=redis_url, concurrency=4)
        for name in held
    )
    async with a, b:
        for number in range(3000):
            await send(redis, "two.short", task_id=f"short{number}", ignore_result=True)
        await until(lambda: len(ran) == 3000)
        for number in range(16):
            await send(redis, "two.long", task_id=f"long{number}")
        await until(lambda: len(held["a"]) == len(held["b"]) == 4)

        async def rest_is_free() -> bool:
            return await redis.llen("celery") == 8 and await redis.hlen("unacked") == 8

        await until(rest_is_free)
        end.set()
        await until(lambda: len(held["a"]) + len(held["b"]) == 16)

"""The wake-up under a load of announcements."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crucible.broker.connection import open_client
from crucible.worker.wakeup import WakeUp

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_two_thousand_announcements_in_a_row(redis_url: str, redis: Redis) -> None:
    """A burst of announcements is read one by one; none is read inside the reading of another."""
    async with open_client(redis_url) as client:
        wake_up = WakeUp(client, ["celery"])
        listening = asyncio.create_task(wake_up.run(lambda: None))
        try:
            await wake_up.wait(10)
            assert wake_up.armed
            for _ in range(2000):
                await redis.lpush("celery", "x")
            wake_up.clear()
            await redis.lpush("celery", "x")
            await wake_up.wait(10)
            assert wake_up.armed
            assert not listening.done()
        finally:
            listening.cancel()
            await asyncio.wait([listening])

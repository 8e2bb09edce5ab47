"""The wake-up under a load of announcements."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from support.patience import PATIENCE_S

from crucible.broker.redis.connection import open_client
from crucible.worker.wakeup import WakeUp

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_a_burst_of_announcements(redis_url: str, redis: Redis) -> None:
    """A burst of announcements is read one by one; none is read inside the reading of another."""
    limit = sys.getrecursionlimit()
    async with open_client(redis_url) as client:
        wake_up = WakeUp(client, ["celery"])
        listening = asyncio.create_task(wake_up.run(lambda: None))
        try:
            await wake_up.wait(PATIENCE_S)
            assert wake_up.armed
            # A deep stack shows itself without the thousands a second that reach the usual limit.
            sys.setrecursionlimit(300)
            for _ in range(400):
                await redis.lpush("celery", "x")
            wake_up.clear()
            await redis.lpush("celery", "x")
            await wake_up.wait(PATIENCE_S)
            assert wake_up.armed
            assert not listening.done()
        finally:
            sys.setrecursionlimit(limit)
            listening.cancel()
            await asyncio.wait([listening])

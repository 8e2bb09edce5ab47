"""The append-only file of a scenario's queue server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: Seconds a rewrite of the largest file may take.
REWRITE_S = 120.0


async def rewritten(redis: Redis) -> None:
    """Return when no rewrite is under way: its process takes a core."""
    async with asyncio.timeout(REWRITE_S):
        while (await redis.info("persistence"))["aof_rewrite_in_progress"]:
            await asyncio.sleep(0.05)


async def emptied(redis: Redis) -> None:
    """Delete everything, from the file too, so that it is long until the next rewrite."""
    await redis.flushall()
    await rewritten(redis)
    await redis.bgrewriteaof()
    await rewritten(redis)

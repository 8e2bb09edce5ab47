"""The append-only file of a scenario's queue server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: Seconds a rewrite of the largest file may take.
REWRITE_S = 120.0


async def rewritten(redis: Redis) -> None:
    """Wait until no rewrite is in progress: its process uses a whole core."""
    async with asyncio.timeout(REWRITE_S):
        while (await redis.info("persistence"))["aof_rewrite_in_progress"]:
            await asyncio.sleep(0.05)


async def emptied(redis: Redis) -> None:
    """Delete everything and rewrite the file, so that the next rewrite is far off."""
    await redis.flushall()
    await rewritten(redis)
    await redis.bgrewriteaof()
    await rewritten(redis)

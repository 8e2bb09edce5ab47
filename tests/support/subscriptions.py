"""Subscriptions on the queue server, of one database only.

``PUBSUB CHANNELS`` answers for the whole server: a stock application of another test in the same
process stays subscribed to what it sent until the garbage collector takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def channels_per_subscriber(redis: Redis) -> list[int]:
    """How many channels each connection to the client's database listens to, if it does."""
    database = redis.connection_pool.connection_kwargs["db"]
    listed = await redis.client_list(_type="pubsub")
    return [int(one["sub"]) for one in listed if int(one["db"]) == database]

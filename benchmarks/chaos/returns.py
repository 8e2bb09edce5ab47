"""Measures how long a dead worker's claims stay in ``unacked`` under its id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from crucible.broker.claiming.liveness import decode_heartbeat
from crucible.redis_keys import CLAIM_PREFIX, UNACKED, WORKER_PREFIX, WORKERS

if TYPE_CHECKING:
    from benchmarks.chaos.records import Fault

_LOOK_S = 0.2
#: Longest measurement, seconds; what is left after it shows up as stuck.
_PATIENCE_S = 120.0


class Returns:
    """Polls ``unacked`` over its own connection."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def worker_id(self, node: str) -> str:
        """The worker id of a node; empty for stock workers, which have none."""
        try:
            async with Redis.from_url(self._url) as client:
                known: list[Any] = await client.zrange(WORKERS, 0, -1)
                for worker_id in [raw.decode() for raw in known]:
                    sign: Any = await client.get(f"{WORKER_PREFIX}{worker_id}")
                    if sign is not None and decode_heartbeat(sign).node == node:
                        return str(worker_id)
        except (RedisError, OSError):
            # The server is restarting; this kill is not measured.
            return ""
        return ""

    async def watch(self, fault: Fault, worker_id: str) -> None:
        """Record how many claims the dead worker left, and when the last of them was recovered."""
        prefix = f"{CLAIM_PREFIX}{worker_id}|".encode()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with Redis.from_url(self._url) as client:
            while loop.time() - begin < _PATIENCE_S:
                try:
                    held: Any = await _fields(client)
                except (RedisError, OSError):
                    await asyncio.sleep(_LOOK_S)
                    continue
                left = sum(field.startswith(prefix) for field in held)
                fault.claims = max(fault.claims, left)
                if not left:
                    break
                await asyncio.sleep(_LOOK_S)
        if fault.claims:
            fault.back_s = round(loop.time() - begin, 2)


async def _fields(client: Any) -> list[bytes]:
    fields: list[bytes] = await client.hkeys(UNACKED)
    return fields

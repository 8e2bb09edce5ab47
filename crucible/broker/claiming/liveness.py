"""Heartbeats of async workers: what a worker writes about itself, and who is alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crucible.breaker import Circuit  # noqa: TC001 - msgspec reads the annotation

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.redis_keys import Keys


#: Gauges of every worker: tasks it runs at once, runs now, holds claims of, and milliseconds that
#: one takes on average; tasks that it has run, and its resident memory in MiB.
SLOTS, BUSY = "worker slots", "worker busy"
CLAIMED, SERVICE_MS = "worker claimed", "worker service_ms"
RAN, MEMORY_MB = "worker ran", "worker memory_mb"


class Heartbeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a worker's key, refreshed every third of its TTL.

    Attributes:
        node: its node name.
        trouble: what keeps it from running tasks now; empty when nothing does.
        circuits: circuit breakers of this worker, by downstream.
        gauges: its load, and what its tasks can measure of themselves, such as sandboxes by state.
    """

    node: str
    trouble: str = ""
    circuits: dict[str, Circuit] = {}
    gauges: dict[str, int] = {}


_decoder = msgspec.json.Decoder(Heartbeat)


def encode_heartbeat(heartbeat: Heartbeat) -> str:
    """As stored: the node name alone, or JSON where there is more to say."""
    if not (heartbeat.trouble or heartbeat.circuits or heartbeat.gauges):
        return heartbeat.node
    return msgspec.json.encode(heartbeat).decode()


def decode_heartbeat(stored: bytes) -> Heartbeat:
    """The inverse of ``encode_heartbeat``; what cannot be read is taken for a node name."""
    if stored.startswith(b"{"):
        try:
            return _decoder.decode(stored)
        except msgspec.DecodeError:
            pass
    return Heartbeat(stored.decode(errors="replace"))


async def read_heartbeats(client: Redis, keys: Keys) -> list[Heartbeat]:
    """Heartbeats of the workers that are alive, by node name.

    Raises:
        redis.exceptions.RedisError: untranslated.
    """
    heartbeats = [decode_heartbeat(value) for value in (await _living(client, keys)).values()]
    return sorted(heartbeats, key=lambda heartbeat: heartbeat.node)


async def living_workers(client: Redis, keys: Keys) -> set[str]:
    """Ids of the workers that are alive; raises what ``read_heartbeats`` raises."""
    return set(await _living(client, keys))


async def _living(client: Redis, keys: Keys) -> dict[str, bytes]:
    """The stored heartbeat of each worker that is alive, by its id."""
    ids: list[Any] = await client.zrange(keys.workers, 0, -1)
    known = [worker_id.decode() for worker_id in ids]
    if not known:
        return {}
    values: list[Any] = await client.mget([keys.worker(worker_id) for worker_id in known])
    found = zip(known, values, strict=True)
    return {worker_id: value for worker_id, value in found if value is not None}

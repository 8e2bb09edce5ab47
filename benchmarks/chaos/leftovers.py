"""What is left on the queue server and of sandboxes after a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from benchmarks.chaos.workload import QUEUES
from crucible import redis_keys as names
from crucible.broker.wire.priority import STEPS
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEYS = Keys()
#: Keys without a TTL that are in the table of ``redis_keys.py`` or belong to kombu.
TABLE = frozenset({
    names.UNACKED, names.UNACKED_INDEX, names.WORKERS, names.REVOKED, names.DLQ,
    names.BINDING_DEADLINES,
})  # fmt: skip
_BINDINGS = ("_kombu.binding.", "_kombu.binding_permanent.")
LISTS = frozenset(_KEYS.step_list(queue, step) for queue in QUEUES for step in STEPS)
_MGET = 500
#: States that no task of the load may end in.
FAILED = frozenset({"FAILURE", "REVOKED"})


@dataclass
class Leftovers:
    """Task ids by where they are, and unknown keys.

    Attributes:
        listed: ids in queues.
        claimed: ids in ``unacked``.
        dead_letters: ids of dead letters.
        states: the stored state of each accepted task.
        errors: the stored error of each task that failed.
        leaked: keys that are not a queue, have no TTL and are not in the table of keys.
        index_only: entries of ``unacked_index`` without a claim.
        sandboxes: containers, and processes, mounts and control groups of them.
    """

    listed: list[str] = field(default_factory=list)
    claimed: list[str] = field(default_factory=list)
    dead_letters: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    leaked: list[str] = field(default_factory=list)
    index_only: list[str] = field(default_factory=list)
    sandboxes: list[str] = field(default_factory=list)


async def find(url: str, accepted: Sequence[str]) -> Leftovers:
    """Read all of it; nothing should be in progress any more."""
    left = Leftovers()
    async with Redis.from_url(url) as client:
        for name in LISTS:
            left.listed += [_id(raw) for raw in await _list(client, name)]
        claims: Any = await _hash(client)
        left.claimed = [_id(json.dumps(json.loads(value)[0])) for value in claims.values()]
        index: Any = await client.zrange(names.UNACKED_INDEX, 0, -1)
        left.index_only = [row.decode() for row in index if row not in claims]
        letters: Any = await client.xrange(names.DLQ)
        left.dead_letters = [_id(fields[b"raw"]) for _, fields in letters]
        left.leaked = [key async for key in _leaked(client)]
        for start in range(0, len(accepted), _MGET):
            part = accepted[start : start + _MGET]
            metas = await client.mget([_KEYS.result(task_id) for task_id in part])
            for task_id, meta in zip(part, metas, strict=True):
                stored = json.loads(meta) if meta else {"status": "PENDING"}
                left.states[task_id] = stored["status"]
                if stored["status"] in FAILED:
                    left.errors[task_id] = f"{stored['status']} {stored['result']}"
    return left


async def _list(client: Any, name: str) -> list[bytes]:
    rows: list[bytes] = await client.lrange(name, 0, -1)
    return rows


async def _hash(client: Any) -> dict[bytes, bytes]:
    claims: dict[bytes, bytes] = await client.hgetall(names.UNACKED)
    return claims


async def _leaked(client: Any) -> Any:
    async for raw in client.scan_iter(count=1000):
        key = raw.decode(errors="replace")
        known = key in LISTS or key in TABLE or key.startswith(_BINDINGS)
        if not known and await client.ttl(raw) == -1:
            yield key


def _id(raw: bytes | str) -> str:
    try:
        return str(json.loads(raw)["headers"]["id"])
    except (ValueError, TypeError, KeyError):
        return repr(raw[:80])

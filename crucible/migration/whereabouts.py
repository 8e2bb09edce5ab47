"""Where Celery evaluations without an end are: in a list, claimed, or among the dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.servers.connection import translated
from crucible.broker.wire.priority import STEPS
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.broker.keys import Keys

#: Messages read in one step.
PAGE = 500


class _Headers(msgspec.Struct):
    id: str = ""


class _Envelope(msgspec.Struct):
    headers: _Headers


_envelope = msgspec.json.Decoder(_Envelope)
_claim = msgspec.json.Decoder(tuple[_Envelope, Any, Any])


def _task_id(raw: bytes) -> str:
    try:
        return _envelope.decode(raw).headers.id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _claimed_id(value: bytes) -> str:
    try:
        return _claim.decode(value)[0].headers.id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


async def queued_ids(client: Redis, keys: Keys) -> set[str]:
    """Ids of the tasks that wait in the lists.

    Consumers take from the far end while this reads, so a message may be passed over; whoever
    misses one looks for it among the claims, and then here again. Raises BrokerError.
    """
    found: set[str] = set()
    for queue in KNOWN_QUEUES:
        for step in STEPS:
            name, start = keys.step_list(queue, step), 0
            while True:
                with translated():
                    page: Any = await client.lrange(name, start, start + PAGE - 1)
                found.update(map(_task_id, page))
                if len(page) < PAGE:
                    break
                start += PAGE
    return found


async def claimed_ids(client: Redis, keys: Keys) -> set[str]:
    """Ids of the tasks that a worker has, or that are delayed; raises BrokerError."""
    found: set[str] = set()
    cursor: Any = 0
    while True:
        with translated():
            answer: Any = await client.hscan(keys.unacked, cursor, count=PAGE)
        cursor, page = answer
        found.update(map(_claimed_id, page.values()))
        if int(cursor) == 0:
            return found


async def buried_ids(client: Redis, keys: Keys) -> set[str]:
    """Ids of the tasks that became dead letters; raises BrokerError."""
    found: set[str] = set()
    start = "-"
    while True:
        with translated():
            rows: Any = await client.xrange(keys.dlq, min=start, count=PAGE)
        for _, fields in rows:
            found.add(fields.get(b"task_id", b"").decode() or _task_id(fields.get(b"raw", b"")))
        if len(rows) < PAGE:
            return found
        start = f"({rows[-1][0].decode()}"

"""Where Celery evaluations that have not ended are: queued, claimed, or dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crucible.broker.claiming.liveness import living_workers
from crucible.broker.redis.translation import translated
from crucible.broker.wire.priority import STEPS
from crucible.redis_keys import CLAIM_PREFIX, DELAYED_PREFIX
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.redis_keys import Keys

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


class Claimed(NamedTuple):
    """Ids of the tasks that are claimed, by who has them.

    Attributes:
        held: by an async worker that lives.
        delayed: by nobody, until they are due; retries mostly.
        unsure: by a stock worker, which gives no sign of life and may be dead, or by an async one
            that is. They come back by themselves: a sweep hands them out again.
    """

    held: set[str]
    delayed: set[str]
    unsure: set[str]


async def claimed_ids(client: Redis, keys: Keys) -> Claimed:
    """Ids of the tasks that are claimed; raises BrokerError."""
    found = Claimed(set(), set(), set())
    with translated():
        living = await living_workers(client, keys)
    cursor: Any = 0
    while True:
        with translated():
            answer: Any = await client.hscan(keys.unacked, cursor, count=PAGE)
        cursor, page = answer
        for field, value in page.items():
            _those_of(field.decode(errors="replace"), living, found).add(_claimed_id(value))
        if int(cursor) == 0:
            return found


def _those_of(field: str, living: set[str], found: Claimed) -> set[str]:
    if field.startswith(DELAYED_PREFIX):
        return found.delayed
    holder = field.removeprefix(CLAIM_PREFIX).partition("|")[0]
    return found.held if field.startswith(CLAIM_PREFIX) and holder in living else found.unsure


async def dead_letter_ids(client: Redis, keys: Keys) -> set[str]:
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

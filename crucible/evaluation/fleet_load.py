"""What waits and what works: ages of queues, and the load that async workers report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.claiming.liveness import BUSY, CLAIMED, SERVICE_MS, SLOTS
from crucible.broker.redis.translation import translated
from crucible.broker.wire.decode import Message, decode
from crucible.broker.wire.priority import STEPS
from crucible.errors import MessageError
from crucible.evaluation.record import TASK_ID_PREFIX, decode_record, once_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from crucible.broker.claiming.liveness import Heartbeat
    from crucible.redis_keys import Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLoad:
    """The load of all async workers that live.

    Attributes:
        workers: how many.
        slots: tasks they run at once.
        busy: tasks they run now.
        claimed: messages they hold, delayed ones not included.
        service_s: seconds a task takes on average; None while no worker has measured one.
    """

    workers: int
    slots: int
    busy: int
    claimed: int
    service_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendOnly:
    """The append-only file of a server.

    Attributes:
        size_bytes: of the file.
        failed: the last write or rewrite of it did.
    """

    size_bytes: int
    failed: bool


def append_only_of(info: Mapping[str, Any]) -> AppendOnly | None:
    """From the section ``persistence`` of INFO; None where there is no such file."""
    if not info.get("aof_enabled"):
        return None
    statuses = (info.get("aof_last_write_status"), info.get("aof_last_bgrewrite_status"))
    return AppendOnly(size_bytes=int(info.get("aof_current_size", 0)), failed="err" in statuses)


def load_of(heartbeats: Sequence[Heartbeat]) -> FleetLoad:
    """The loads of all workers together; each counts by its slots in the average."""
    taken = [
        (beat.gauges[SERVICE_MS] / 1000, max(1, beat.gauges.get(SLOTS, 1)))
        for beat in heartbeats
        if SERVICE_MS in beat.gauges
    ]
    weight = sum(slots for _, slots in taken)
    return FleetLoad(
        workers=len(heartbeats),
        slots=_sum(SLOTS, heartbeats),
        busy=_sum(BUSY, heartbeats),
        claimed=_sum(CLAIMED, heartbeats),
        service_s=sum(service_s * slots for service_s, slots in taken) / weight if taken else None,
    )


def _sum(name: str, heartbeats: Sequence[Heartbeat]) -> int:
    return sum(beat.gauges.get(name, 0) for beat in heartbeats)


async def read_ages(client: Redis, keys: Keys, queues: Sequence[str]) -> dict[str, float]:
    """Seconds since the next message of each queue was accepted; 0 where none waits.

    Two round trips whatever waits: the next message of each list, and the records of evaluations
    among them. Celery's messages do not say when they were sent: a queue is absent if its next
    messages have neither a record nor a ``timestamp`` property.

    Raises:
        BrokerError: the server does not answer.
    """
    lists = [(queue, keys.step_list(queue, step)) for queue in queues for step in STEPS]
    with translated():
        async with client.pipeline(transaction=False) as pipe:
            for _, name in lists:
                pipe.lindex(name, -1)
            tails: list[Any] = await pipe.execute()
        waiting = [
            (queue, raw) for (queue, _), raw in zip(lists, tails, strict=True) if raw is not None
        ]
        messages = [(queue, _readable(raw)) for queue, raw in waiting]
        asked = [message for _, message in messages if message and _sent_s(message) is None]
        names = [keys.idempotency(once_name(_eval_id(message))) for message in asked]
        stored: list[Any] = await client.mget(names) if names else []
    accepted = {
        message.id: _accepted_s(record) for message, record in zip(asked, stored, strict=True)
    }
    return _ages(queues, messages, accepted)


def _ages(
    queues: Sequence[str],
    messages: Sequence[tuple[str, Message | None]],
    accepted: dict[str, float | None],
) -> dict[str, float]:
    now_s = time.time()
    occupied = {queue for queue, _ in messages}
    ages = {queue: 0.0 for queue in queues if queue not in occupied}
    for queue, message in messages:
        if message is not None:
            sent_s = _sent_s(message) or accepted.get(message.id)
            if sent_s is not None:
                ages[queue] = max(ages.get(queue, 0.0), now_s - sent_s)
    return ages


def _readable(raw: bytes) -> Message | None:
    try:
        return decode(raw, body=False)
    except MessageError:
        return None


def _sent_s(message: Message) -> float | None:
    """AMQP's ``timestamp`` property, which some producers set: seconds since the epoch."""
    value = message.properties.get("timestamp")
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _eval_id(message: Message) -> str:
    return message.id.removeprefix(TASK_ID_PREFIX)


def _accepted_s(record: bytes | None) -> float | None:
    try:
        return None if record is None else decode_record(record).created_ms / 1000
    except msgspec.DecodeError:
        return None

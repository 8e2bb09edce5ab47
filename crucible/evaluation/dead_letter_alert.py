"""Notifying operators' webhooks of new dead letters: the event ``dead_letters.growing``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from crucible.broker import IdempotencyRecord, Publisher
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.broker.wire.encode import encode_call
from crucible.events.position import START, Position
from crucible.redis_keys import WEBHOOK_DELIVERED_TTL_S, Keys
from crucible.webhooks.planning import alerts_of, call_of
from crucible.webhooks.registration import DEAD_LETTERS, RegistrationStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from crucible.broker.claiming.deadletters import DeadLetter
    from crucible.settings import Settings
    from crucible.webhooks.planning import Delivery


async def report_growth(
    settings: Settings, letters: Sequence[DeadLetter], facts: dict[str, Any]
) -> int:
    """Notify the webhooks that ask for it where there are letters that none was notified of.

    Args:
        settings: name the task queue server.
        letters: the dead letters, the newest first.
        facts: what is to be said of them.

    Returns:
        How many letters are new.

    Raises:
        BrokerError: the task queue server does not answer; doing it again is safe.
    """
    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    async with open_client(settings.celery_broker_url, name="maintenance") as client:
        with translated():
            stored: Any = await client.get(keys.dlq_reported)
        reported = Position.of_entry(stored) if stored else START
        new = sum(_position(letter) > reported for letter in letters)
        if not new:
            return 0
        found = {"new": new, **facts}
        newest, now_ms = letters[0].letter_id, time.time_ns() // 1_000_000
        webhooks = await RegistrationStore(client, keys).all()
        # Sent before it is remembered: a worker that is killed in between has the same deliveries
        # sent again, by ids that are sent once.
        await _send(settings, keys, alerts_of(DEAD_LETTERS, newest, now_ms, found, webhooks))
        await _remember(client, keys, newest)
    return new


async def _send(settings: Settings, keys: Keys, deliveries: Sequence[Delivery]) -> None:
    if not deliveries:
        return
    async with Publisher.connect(
        settings.celery_broker_url,
        global_keyprefix=keys.prefix,
        scripting=settings.claim == "atomic",
    ) as publisher:
        for call in map(call_of, deliveries):
            task_id = str(call.task_id)
            once = IdempotencyRecord(keys.idempotency(task_id), b"1", WEBHOOK_DELIVERED_TTL_S)
            raw = encode_call(call, task_id)
            await publisher.publish(raw, queue=call.queue, idempotency=once)


async def _remember(client: Redis, keys: Keys, newest: str) -> None:
    with translated():
        await client.set(keys.dlq_reported, newest)


def _position(letter: DeadLetter) -> Position:
    return Position.of_entry(letter.letter_id.encode())

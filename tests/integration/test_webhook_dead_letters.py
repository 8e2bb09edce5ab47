"""Ends that no worker has seen: dead letters of workers that died, and purged queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.broker.wire.decode import decode
from crucible.evaluation.completion_store import CompletionStore, counting_cancelled
from crucible.evaluation.record import Record, encode_record, once_name
from crucible.evaluation.webhook_ends import pushes_of
from crucible.redis_keys import Keys
from crucible.webhooks.subscriptions import Subscriptions

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEYS = Keys()


async def remember(redis: Redis, eval_id: str) -> None:
    """The record of a submission that named a receiver."""
    record = Record(b"d", 0, "evaluation", "python", webhook_url="https://own.example/")
    await redis.set(KEYS.idempotency(once_name(eval_id)), encode_record(record))


async def ends(redis: Redis) -> list[tuple[str, str]]:
    """Evaluation and status of each delivery that was sent."""
    found = []
    raw: bytes
    for raw in await redis.lrange("webhooks", 0, -1):  # type: ignore[assignment]  # bytes here
        end = decode(raw).kwargs["delivery"]["end"]
        found.append((end["eval_id"], end["status"]))
    return found


async def test_a_dead_letter_of_a_dead_worker_is_reported_with_its_count(redis: Redis) -> None:
    """In one step, so that it is never counted without; and once."""
    await remember(redis, "lost")
    await redis.xadd(KEYS.dlq, {"task_id": "eval-lost", "detail": "died", "raw": b"x"})
    store = CompletionStore(redis, KEYS, 60, pushes=pushes_of(Subscriptions(), KEYS))
    for _ in range(2):
        await store.count_letters()
    assert await ends(redis) == [("lost", "failed")]


async def test_what_is_purged_is_reported_as_cancelled(redis: Redis, redis_url: str) -> None:
    """It ends without a worker."""
    await remember(redis, "purged")
    pushes = pushes_of(Subscriptions(), KEYS)
    async with counting_cancelled(redis_url, KEYS, 60, pushes=pushes) as cancelled:
        await cancelled(["eval-purged", "other-task"])
    assert await ends(redis) == [("purged", "cancelled")]

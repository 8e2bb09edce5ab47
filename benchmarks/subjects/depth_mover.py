"""Fills a queue as the api does: through ``Publisher``, a submission record with each message."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from crucible.broker import IdempotencyRecord, Publisher
from crucible.broker.publishing.group_commit import MAX_FLUSH_MESSAGES
from crucible.broker.wire.encode import TaskTemplate
from crucible.broker.wire.ids import new_id
from crucible.evaluation.record import Record, encode_record, once_name, task_id_of

QUEUE = "evaluation"
PRIORITY = 4
#: The list the messages are in: step 3 of the queue.
LIST = f"{QUEUE}\x06\x163"
#: Each chunk fills a flush, so that two under way at once never come to share one.
CHUNK, AT_ONCE = MAX_FLUSH_MESSAGES, 2
RECORD_TTL_S = 86_400.0
_stack = AsyncExitStack()
_publisher: Publisher
_template = TaskTemplate("tasks.evaluate_code", QUEUE, PRIORITY, ignore_result=False)


async def setup(job: dict[str, Any]) -> None:
    """Connect."""
    global _publisher
    _publisher = await _stack.enter_async_context(Publisher.connect(job["redis"]))


async def _push_chunk(count: int) -> int:
    """Push messages at once, and wait until the server has them; their bytes in all."""
    size = 0
    pending = []
    for _ in range(count):
        eval_id = new_id()
        raw = _template.render(task_id_of(eval_id), [eval_id, "print(6 * 7)", "python"], {})
        size += len(raw)
        record = Record(b"0123456789abcdef", time.time_ns() // 1_000_000, QUEUE, "python")
        once = IdempotencyRecord(
            _publisher.keys.idempotency(once_name(eval_id)), encode_record(record), RECORD_TTL_S
        )
        pending.append(_publisher.publish(raw, queue=QUEUE, priority=PRIORITY, idempotency=once))
    await asyncio.gather(*pending)
    return size


async def _push(count: int) -> int:
    """Push messages, some encoded while others are on their way; their bytes in all.

    An api has requests in hand at any time. One chunk after the other would let the client wait for
    the server and the server for the client, and measure the sum of their times.
    """
    chunks = iter([CHUNK] * (count // CHUNK) + [count % CHUNK])

    async def pusher() -> int:
        return sum([await _push_chunk(chunk) for chunk in chunks])

    return sum(await asyncio.gather(*(pusher() for _ in range(AT_ONCE))))


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Push a number of messages."""
    started = time.perf_counter()
    size = await _push(job["count"])
    return {"bytes": size, "elapsed_s": time.perf_counter() - started}


async def teardown(job: dict[str, Any]) -> None:
    """Hang up."""
    await _stack.aclose()

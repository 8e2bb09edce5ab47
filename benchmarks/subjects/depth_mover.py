"""Fills a queue as the api does: through ``Publisher``, with an idempotency record per message."""

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
#: The list of the messages: step 3 of the queue.
LIST = f"{QUEUE}\x06\x163"
#: Each chunk fills a flush, so that two in flight at once never share one.
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
    """Push messages at once and wait for the confirmations; returns their size in bytes."""
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
    """Push messages, encoding some while others are in flight; returns their size in bytes.

    An api under load always has more requests at hand. With one chunk after the other, client and
    server would wait for each other, and the sum of their times would be measured.
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

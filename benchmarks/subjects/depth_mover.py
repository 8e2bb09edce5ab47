"""Fills a queue as the api does: through ``Publisher``, a submission record with each message."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from crucible.broker import Once, Publisher
from crucible.broker.wire.envelope import TaskTemplate
from crucible.broker.wire.ids import new_id
from crucible.evaluation.record import Record, encode_record, once_name, task_id_of

QUEUE = "evaluation"
PRIORITY = 4
#: The list the messages are in: step 3 of the queue.
LIST = f"{QUEUE}\x06\x163"
CHUNK = 500
RECORD_TTL_S = 86_400.0
_stack = AsyncExitStack()
_publisher: Publisher
_template = TaskTemplate("tasks.evaluate_code", QUEUE, PRIORITY, ignore_result=False)


async def setup(job: dict[str, Any]) -> None:
    """Connect."""
    global _publisher
    _publisher = await _stack.enter_async_context(Publisher.connect(job["redis"]))


async def _push(count: int) -> int:
    """Push messages; their bytes in all."""
    size = 0
    for start in range(0, count, CHUNK):
        pending = []
        for _ in range(min(CHUNK, count - start)):
            eval_id = new_id()
            raw = _template.render(task_id_of(eval_id), [eval_id, "print(6 * 7)", "python"], {})
            size += len(raw)
            record = Record(b"0123456789abcdef", time.time_ns() // 1_000_000, QUEUE, "python")
            once = Once(
                _publisher.keys.once(once_name(eval_id)), encode_record(record), RECORD_TTL_S
            )
            pending.append(_publisher.publish(raw, queue=QUEUE, priority=PRIORITY, once=once))
        await asyncio.gather(*pending)
    return size


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Push a number of messages."""
    started = time.perf_counter()
    size = await _push(job["count"])
    return {"bytes": size, "elapsed_s": time.perf_counter() - started}


async def teardown(job: dict[str, Any]) -> None:
    """Hang up."""
    await _stack.aclose()

"""streaQ's worker object with the task of the worker scenarios."""

from __future__ import annotations

import os

from streaq import Worker

#: More concurrent tasks than its default of 16.
worker = Worker(redis_url=os.environ.get("QUEUE_URL", "redis://127.0.0.1"), concurrency=100)


@worker.task
async def noop(value: int) -> int:
    """Nothing."""
    return value

"""taskiq's broker with the task of the worker scenarios: streams, as its documentation advises."""

from __future__ import annotations

import os

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ.get("QUEUE_URL", "redis://127.0.0.1")
broker = RedisStreamBroker(url=URL, consumer_id="0").with_result_backend(
    RedisAsyncResultBackend(redis_url=URL)
)


@broker.task(task_name="noop")
async def noop(value: int) -> int:
    """Nothing."""
    return value

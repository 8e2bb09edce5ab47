"""Celery's protocol on Redis lists, for asyncio: publishing, claiming, results."""

from __future__ import annotations

from crucible.broker.publishing.publisher import IdempotencyRecord, Publisher
from crucible.broker.results.task_result import TaskResult
from crucible.broker.wire.encode import TaskCall

__all__ = ["IdempotencyRecord", "Publisher", "TaskCall", "TaskResult"]

"""Celery's protocol on Redis lists, for asyncio: publishing, claiming, results."""

from __future__ import annotations

from crucible.broker.canvas.signature import Signature, chain, chord, group, signature
from crucible.broker.publishing.publisher import IdempotencyRecord, Publisher
from crucible.broker.results.task_result import TaskResult
from crucible.broker.wire.encode import TaskCall

__all__ = [
    "IdempotencyRecord",
    "Publisher",
    "Signature",
    "TaskCall",
    "TaskResult",
    "chain",
    "chord",
    "group",
    "signature",
]

"""Celery on Redis lists, spoken by asyncio: producing, claiming, results."""

from __future__ import annotations

from crucible.broker.publishing.publisher import Once, Publisher
from crucible.broker.results.task_result import TaskResult
from crucible.broker.wire.encode import TaskCall

__all__ = ["Once", "Publisher", "TaskCall", "TaskResult"]

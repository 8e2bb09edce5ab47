"""Celery on Redis lists, spoken by asyncio: producing, claiming, results."""

from __future__ import annotations

from crucible.broker.envelope import TaskCall
from crucible.broker.publisher import Once, Publisher
from crucible.broker.task_result import TaskResult

__all__ = ["Once", "Publisher", "TaskCall", "TaskResult"]

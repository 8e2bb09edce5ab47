"""The in-memory queue service that Crucible replaces, its worker and its client.

It keeps its tasks in one process's memory and nowhere else: when that process ends, whatever was
queued or running in it is gone, and so are the results it kept. That is how the original behaved,
and why people leave it. Nothing here repairs it; who submitted a task finds the loss by asking
for it (``LegacyTaskUnknown``) and submits it again.
"""

from __future__ import annotations

from crucible.legacy.client import LegacyClient
from crucible.legacy.queue import LegacyQueue
from crucible.legacy.service import open_service, serve
from crucible.legacy.wire import QueueStats, TaskResult, TaskState, TaskView
from crucible.legacy.worker import work

__all__ = [
    "LegacyClient",
    "LegacyQueue",
    "QueueStats",
    "TaskResult",
    "TaskState",
    "TaskView",
    "open_service",
    "serve",
    "work",
]

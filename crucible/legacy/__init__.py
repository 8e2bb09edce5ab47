"""The in-memory queue service that Crucible replaces, its worker and its client.

It keeps its tasks in the memory of one process: when that process ends, its queued and running
tasks and its results are lost, as in the original system. Nothing here repairs that. A client that
asks for a lost task gets ``LegacyTaskUnknown`` and submits it again.
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

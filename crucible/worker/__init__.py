"""Running anybody's tasks: registry, context, loops."""

from crucible.worker.context import TaskContext
from crucible.worker.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from crucible.worker.registry import TaskRegistry

__all__ = [
    "Ignore",
    "Reject",
    "Retry",
    "SoftTimeLimitExceeded",
    "TaskContext",
    "TaskRegistry",
]

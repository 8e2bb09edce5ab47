"""Running tasks from the queues, evaluations or any other.

The way of a message: ``consumer`` claims it, a slot (``slots``) takes its run to the ``processor``,
``execution.execute`` calls its task, ``settlements`` turns what that comes to into a settlement,
``settlement_writer`` writes it. ``parts`` puts a worker together; ``liveness`` has what protects
claims when workers die, ``control`` what remote control and Flower see, ``canvas`` what follows a
task of a chain, group or chord.
"""

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

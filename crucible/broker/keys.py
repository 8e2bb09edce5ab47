"""Every Redis key of the task queue server, its type, who writes it, and what bounds it.

Names without ``crucible:`` belong to Celery and kombu and are spelt as they spell them
(kombu ``transport/redis.py``, celery ``backends/base.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

#: Between a queue's name and its priority step (kombu ``transport/redis.py``, ``sep``).
SEP = "\x06\x16"

#: HASH field -> ``[message, exchange, routing_key]``; a claim. Bounded by what workers hold.
UNACKED = "unacked"
#: ZSET field -> time of the claim or its last renewal (seconds since the epoch).
UNACKED_INDEX = "unacked_index"
#: STRING, one result. Has a TTL (``result_expires``). Also the channel the result is published on.
RESULT_PREFIX = "celery-task-meta-"
#: STRING/ZSET/SET family of a chord, suffixes ``.s .j .t .d .c``. Has a TTL.
GROUP_PREFIX = "celery-taskset-meta-"

#: STRING, set by a publisher together with the message. Has a TTL.
ONCE_PREFIX = "crucible:once:"
#: STRING, refreshed by a living worker; value: its node name. TTL ``WORKER_TTL_S``.
WORKER_PREFIX = "crucible:worker:"
#: ZSET worker id -> last sign of life. A sweep removes the dead.
WORKERS = "crucible:workers"
#: STRING, set by who took a worker's claims away, so that one that wakes again knows. Has a TTL.
FENCE_PREFIX = "crucible:fence:"
#: STRING, set by whoever sweeps; the next sweep is due when it is gone. Has a TTL.
SWEEP = "crucible:sweep"
#: STREAM of dead letters. Bounded by MAXLEN.
DLQ = "crucible:dlq"

#: Start of every ``unacked`` field that Crucible writes: ``crucible|<worker_id>|<counter>``.
CLAIM_PREFIX = "crucible|"
#: Seconds a worker's sign of life lasts. Renewed every third of it.
WORKER_TTL_S = 9.0


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under one ``global_keyprefix`` (broker transport option) and result prefix.

    Attributes:
        prefix: put before lists, ``unacked*`` and Crucible's own keys; inside messages names
            stay without it.
        result_prefix: put before result keys and channels (a separate option in Celery).
    """

    prefix: str = ""
    result_prefix: str = ""

    def step_list(self, queue: str, step: int) -> str:
        """The list that holds ``queue``'s messages of priority step ``step``."""
        return f"{self.prefix}{queue}{SEP}{step}" if step else f"{self.prefix}{queue}"

    def result(self, task_id: str) -> str:
        """The key and the channel of one task's result."""
        return f"{self.result_prefix}{RESULT_PREFIX}{task_id}"

    def group(self, group_id: str) -> str:
        """The base key of one group or chord; suffixes are appended to it."""
        return f"{self.result_prefix}{GROUP_PREFIX}{group_id}"

    def once(self, name: str) -> str:
        """The key that remembers one idempotent publication."""
        return f"{self.prefix}{ONCE_PREFIX}{name}"

    def worker(self, worker_id: str) -> str:
        """The sign of life of one worker process."""
        return f"{self.prefix}{WORKER_PREFIX}{worker_id}"

    def fence(self, worker_id: str) -> str:
        """The mark that a worker was taken for dead."""
        return f"{self.prefix}{FENCE_PREFIX}{worker_id}"

    @property
    def sweep(self) -> str:
        """The mark that a sweep was made just now."""
        return f"{self.prefix}{SWEEP}"

    @property
    def workers(self) -> str:
        """The workers known, dead or alive."""
        return f"{self.prefix}{WORKERS}"

    @property
    def unacked(self) -> str:
        """The hash of claims."""
        return f"{self.prefix}{UNACKED}"

    @property
    def unacked_index(self) -> str:
        """The times of claims."""
        return f"{self.prefix}{UNACKED_INDEX}"

    @property
    def dlq(self) -> str:
        """The stream of dead letters."""
        return f"{self.prefix}{DLQ}"

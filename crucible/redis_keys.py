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
#: STRING, refreshed by a living worker; value: its node name, or JSON with its troubles and
#: circuits (``claiming/signs.py``). TTL ``WORKER_TTL_S``.
WORKER_PREFIX = "crucible:worker:"
#: ZSET worker id -> last sign of life. A sweep removes the dead.
WORKERS = "crucible:workers"
#: STRING, set by who took a worker's claims away, so that one that wakes again knows. Has a TTL.
FENCE_PREFIX = "crucible:fence:"
#: STRING, set by whoever sweeps; the next sweep is due when it is gone. Has a TTL.
SWEEP = "crucible:sweep"
#: ZSET id of a revoked task -> when, seconds since the epoch. Bounded in number and age.
REVOKED = "crucible:revoked"
#: STREAM of dead letters. Bounded by MAXLEN.
DLQ = "crucible:dlq"

#: HASH of how evaluations ended, by side, status and duration; some forty fields.
ENDS = "crucible:ends"
#: STRING, what of an environment workers have, as JSON; repeated by each of them. Has a TTL.
ENVIRONMENT_PREFIX = "crucible:environment:"
#: STRING, the switches of a migration in force; also the channel their changes are told on.
MIGRATION = "crucible:migration"
#: STREAM of who changed the switches. Bounded by MAXLEN.
MIGRATION_AUDIT = "crucible:migration:audit"
#: STREAM of evaluations that ended differently on both sides. Bounded by MAXLEN.
MISMATCHES = "crucible:migration:mismatches"
#: HASH of how comparisons came out; a handful of fields.
COMPARED = "crucible:migration:compared"
#: STREAM of a few submissions a second, for comparing both sides. Bounded by MAXLEN and size.
SAMPLE = "crucible:migration:sample"
#: STRING, what an evaluation of the legacy queue was asked to run. Has a TTL; dropped at its end.
LEGACY_PROGRAM_PREFIX = "crucible:legacy:program:"
#: STRING, how an evaluation of the legacy queue ended, in the form of a result. Has a TTL.
LEGACY_RESULT_PREFIX = "crucible:legacy:result:"

#: Channel of remote control requests, after ``/<db>.`` (kombu ``pidbox.py``).
PIDBOX = "celery.pidbox"
#: Exchange of replies to them; also the end of the names of the lists they are pushed to.
REPLY_EXCHANGE = "reply.celery.pidbox"
#: Start of the channels of events, after ``/<db>.``; the routing key follows a slash.
EVENT_EXCHANGE = "celeryev"
#: Start of SETs of ``<routing key> SEP <pattern> SEP <list>``, one an exchange. The members of that
#: of replies belong to waiting clients.
BINDING_PREFIX = "_kombu.binding."
#: ZSET exchange -> deadline in milliseconds; stock workers of 5.7 sweep bindings left behind.
BINDING_DEADLINES = "_kombu.binding_deadlines"

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

    def pidbox(self, db: int) -> str:
        """The channel of remote control requests; ``db`` is the broker's database number."""
        return f"{self.prefix}/{db}.{PIDBOX}"

    def event(self, db: int, routing_key: str) -> str:
        """The channel of events with one routing key."""
        return f"{self.prefix}/{db}.{EVENT_EXCHANGE}/{routing_key}"

    def binding(self, exchange: str) -> str:
        """The queues bound to an exchange."""
        return f"{self.prefix}{BINDING_PREFIX}{exchange}"

    @property
    def reply_binding(self) -> str:
        """The lists of clients that wait for replies."""
        return self.binding(REPLY_EXCHANGE)

    @property
    def binding_deadlines(self) -> str:
        """When bindings of clients that died may be swept."""
        return f"{self.prefix}{BINDING_DEADLINES}"

    @property
    def revoked(self) -> str:
        """The revoked tasks."""
        return f"{self.prefix}{REVOKED}"

    @property
    def dlq(self) -> str:
        """The stream of dead letters."""
        return f"{self.prefix}{DLQ}"

    @property
    def ends(self) -> str:
        """The counts of how evaluations ended."""
        return f"{self.prefix}{ENDS}"

    def environment(self, name: str) -> str:
        """What of one environment workers have."""
        return f"{self.prefix}{ENVIRONMENT_PREFIX}{name}"

    @property
    def migration(self) -> str:
        """The switches of a migration, and the channel of their changes."""
        return f"{self.prefix}{MIGRATION}"

    @property
    def migration_audit(self) -> str:
        """The stream of changes of the switches."""
        return f"{self.prefix}{MIGRATION_AUDIT}"

    @property
    def mismatches(self) -> str:
        """The stream of evaluations that ended differently."""
        return f"{self.prefix}{MISMATCHES}"

    @property
    def compared(self) -> str:
        """The counts of comparisons."""
        return f"{self.prefix}{COMPARED}"

    @property
    def sample(self) -> str:
        """The stream of sampled submissions."""
        return f"{self.prefix}{SAMPLE}"

    def legacy_program(self, eval_id: str) -> str:
        """What one evaluation of the legacy queue was asked to run."""
        return f"{self.prefix}{LEGACY_PROGRAM_PREFIX}{eval_id}"

    def legacy_result(self, eval_id: str) -> str:
        """How one evaluation of the legacy queue ended."""
        return f"{self.prefix}{LEGACY_RESULT_PREFIX}{eval_id}"

"""Every Redis key of the queue server and the event bus: type, who writes it, what bounds it.

Names without ``crucible:`` belong to Celery and kombu and are spelt as they spell them (kombu
``transport/redis.py``, celery ``backends/redis.py``). ``docs/redis-keys.md`` is this table as a
page, written by ``scripts/redis_keys_page.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

#: Between a queue's name and its priority step (kombu ``transport/redis.py``, ``sep``).
SEP = "\x06\x16"

UNACKED = "unacked"
UNACKED_INDEX = "unacked_index"
#: The channel of a result is named like its key.
RESULT_PREFIX = "celery-task-meta-"
#: Followed by the id of a group or chord, and one of the suffixes of ``ChordNames``.
GROUP_PREFIX = "celery-taskset-meta-"
IDEMPOTENCY_PREFIX = "crucible:once:"
WORKER_PREFIX = "crucible:worker:"
WORKERS = "crucible:workers"
FENCE_PREFIX = "crucible:fence:"
SWEEP = "crucible:sweep"
REVOKED = "crucible:revoked"
DLQ = "crucible:dlq"
DLQ_REPORTED = "crucible:dlq:reported"
COMPLETIONS = "crucible:ends"
ENVIRONMENT_PREFIX = "crucible:environment:"
ISOLATIONS = "crucible:isolations"
COMPLETIONS_LETTER = "crucible:ends:letter"
#: The channel of changes is named like the key.
KEYS = "crucible:keys"
KEYS_USED = "crucible:keys:used"
RATE_PREFIX = "crucible:rate:"
IN_FLIGHT_PREFIX = "crucible:inflight:"
#: The channel of changes is named like the key.
MIGRATION = "crucible:migration"
MIGRATION_AUDIT = "crucible:migration:audit"
MISMATCHES = "crucible:migration:mismatches"
COMPARED = "crucible:migration:compared"
COMPARE_RUNS = "crucible:migration:compare_runs"
SAMPLE = "crucible:migration:sample"
LEGACY_PROGRAM_PREFIX = "crucible:legacy:program:"
LEGACY_RESULT_PREFIX = "crucible:legacy:result:"
#: The channel of changes is named like the key.
WEBHOOKS = "crucible:webhooks"
WEBHOOKS_FAILING = "crucible:webhooks:failing"
WEBHOOK_LOG_PREFIX = "crucible:webhooks:log:"
WEBHOOK_DELIVERED_PREFIX = "crucible:webhooks:delivered:"
SESSIONS_WANTED = "crucible:sessions:wanted"
SESSION_CALLS_PREFIX = "crucible:sessions:calls:"
SESSION_ANSWERS_PREFIX = "crucible:sessions:answers:"
SESSION_HOST_PREFIX = "crucible:sessions:host:"
SESSIONS_OF_PREFIX = "crucible:sessions:of:"
SESSION_PREFIX = "crucible:session:"
#: The key of the schedule's leases begins with this.
SCHEDULE_PREFIX = "crucible:schedule:"
ASSESSMENT_PREFIX = "crucible:assessment:"
ASSESSMENTS_PREFIX = "crucible:assessments:"
WORKFLOW_PREFIX = "crucible:workflow:"
PIPELINE_PREFIX = "crucible:pipeline:"
RESERVATIONS = "crucible:reservations"
WORKFLOW_LEASE_PREFIX = "crucible:workflows:lease:"
#: These are on the event bus.
EVENTS = "crucible:events"
EVENT_WRITER_PREFIX = "crucible:events:writer:"
HISTORIANS = "crucible:historians"
#: Consumer group of the historians on the stream of events.
HISTORIAN_GROUP = "historian"
#: Channel of remote control requests, after ``/<db>.`` (kombu ``pidbox.py``).
PIDBOX = "celery.pidbox"
#: Exchange of replies to them; also the end of the names of the lists they are pushed to.
REPLY_EXCHANGE = "reply.celery.pidbox"
#: Start of the channels of events, after ``/<db>.``; the routing key follows a slash.
EVENT_EXCHANGE = "celeryev"
BINDING_PREFIX = "_kombu.binding."
BINDING_DEADLINES = "_kombu.binding_deadlines"

#: Start of every field of ``unacked`` that Crucible writes: ``crucible|<worker id>|<number>``.
CLAIM_PREFIX = "crucible|"
#: Start of the fields of delayed messages; ``<step>|<random>`` follows. No worker has this id.
DELAYED_PREFIX = f"{CLAIM_PREFIX}delayed|"

#: Seconds a heartbeat lasts. Renewed every third of it, so that two may be missed.
WORKER_TTL_S = 9.0
#: Seconds a fence lasts: longer than any process is stopped and goes on as if nothing had been.
FENCE_TTL_S = 3600
#: Milliseconds the mark of a sweep lasts: a little less than the second between two sweeps, so that
#: the next is never late for it.
SWEEP_TTL_MS = 900
#: Revoked ids and the seconds they are kept; both as stock has them (celery ``worker/state.py``).
REVOKED_LIMIT, REVOKED_TTL_S = 50_000, 10_800
#: About how many entries the streams keep (``MAXLEN ~``).
DEAD_LETTER_LIMIT = 10_000
AUDIT_LIMIT, MISMATCH_LIMIT, SAMPLE_LIMIT = 1000, 1000, 500
#: Seconds a worker has from counting a chord's last part to sending its body before another may
#: take over (stock: twice ``result_chord_join_timeout``), what that is extended to when the body is
#: about to be sent, and how long it is remembered that it was (celery 5.7 ``backends/redis.py``
#: with its default settings).
CHORD_MARK_TTL_S, CHORD_SENDING_TTL_S, CHORD_SENT_TTL_S = 6, 21, 300
#: Keys that are valid at once, and revoked ones that are still listed.
KEY_LIMIT, REVOKED_KEY_LIMIT = 10_000, 1000
#: Seconds an announcement of an environment lasts: three of its repetitions may be missed.
ENVIRONMENT_TTL_S = 100
#: The same of isolations.
ISOLATIONS_TTL_S = 100
#: About how many entries the stream of events keeps unless ``CRUCIBLE_EVENT_LIMIT`` says so, and
#: seconds the number of a writer's last batch is kept: longer than most outages of the bus. After
#: a longer one a batch whose reply was lost comes twice, which readers tell by the ``seq`` of its
#: events. A stock worker has a new writer for each child, and a child ends with each program that
#: is cancelled while it runs: with an hour there were thousands of numbers.
EVENT_LIMIT, EVENT_WRITER_TTL_S = 500_000, 300
#: About how many attempts a tenant's log keeps, and the seconds it is kept after the last one.
WEBHOOK_LOG_LIMIT, WEBHOOK_LOG_TTL_S = 1000, 30 * 86_400
#: Seconds it is remembered that a delivery was accepted: longer than all its attempts take.
WEBHOOK_DELIVERED_TTL_S = 2 * 86_400
#: Webhooks a tenant may register.
WEBHOOKS_OF_TENANT = 20
#: Calls for sessions that may wait in one list, and seconds a list of them is kept after the last.
SESSION_CALLS_LIMIT, SESSION_CALLS_TTL_S = 1000, 900
#: Seconds an api process has to fetch answers of its sessions.
SESSION_ANSWERS_TTL_S = 60
#: Seconds a heartbeat of a worker with sessions lasts, and it is remembered that one is opened.
SESSION_HOST_TTL_S, SESSION_OPENING_TTL_S = 9.0, 60
#: Seconds it is remembered of a session how it ended.
SESSION_KEPT_TTL_S = 3600
#: Seconds the state of historians is kept once none of them is there.
HISTORIANS_TTL_S = 3600
#: Seconds it is remembered of an evaluation that it was forgotten on request.
PURGED_TTL_S = 30 * 86_400
#: Seconds a reply waits to be fetched by a client that may have left.
REPLY_TTL_S = 300
#: Seconds after which stock workers of 5.7 may sweep the binding of a client that died.
BINDING_TTL_S = 3600


class KeyInfo(NamedTuple):
    """One line of the table.

    Attributes:
        name: of the key, or its pattern.
        kind: its Redis type.
        writer: who writes it.
        bound: what keeps it small, or when it goes away.
        meaning: what it holds.
    """

    name: str
    kind: str
    writer: str
    bound: str
    meaning: str


_RESULT_TTL = "`CRUCIBLE_RESULT_TTL_S`"
_WORKERS = "workers"
_EITHER = "producers, workers"

TABLE = (
    KeyInfo("<queue>", "list", _EITHER, "`CRUCIBLE_QUEUE_LIMIT`",
            "messages of priority step 0; pushed left, claimed right"),
    KeyInfo(r"<queue>\x06\x16<step>", "list", _EITHER, "`CRUCIBLE_QUEUE_LIMIT`, with the above",
            "the same of steps 3, 6 and 9"),
    KeyInfo(UNACKED, "hash", _WORKERS, "what workers hold, and delayed messages",
            "field → `[message, exchange, routing key]`: claims; any worker can restore them"),
    KeyInfo(UNACKED_INDEX, "zset", _WORKERS, "the same",
            "field → time of the claim or its last renewal; of a delayed message its eta less the "
            "visibility timeout"),
    KeyInfo(f"{RESULT_PREFIX}<task id>", "string", _WORKERS, f"TTL {_RESULT_TTL}",
            "a result; also the channel it is published on"),
    KeyInfo(f"{GROUP_PREFIX}<group id>", "string", _EITHER, f"TTL {_RESULT_TTL}",
            "the structure of a chord's header that has groups in it"),
    KeyInfo(f"{GROUP_PREFIX}<group id>.s, .t", "string", _EITHER, f"TTL {_RESULT_TTL}",
            "parts a chord waits for, and those added while it runs"),
    KeyInfo(f"{GROUP_PREFIX}<group id>.j, .d", "zset, set", _WORKERS, f"TTL {_RESULT_TTL}",
            "parts of a chord that ended, and which tasks they were counted for"),
    KeyInfo(f"{GROUP_PREFIX}<group id>.c", "string", _WORKERS,
            f"TTL {CHORD_MARK_TTL_S} to {CHORD_SENDING_TTL_S} s, then {CHORD_SENT_TTL_S} s",
            "dispatch mark: who sends the chord's body, or that it was sent"),
    KeyInfo(f"{IDEMPOTENCY_PREFIX}<name>", "string", "publishers",
            f"TTL of the publication; of an evaluation at least a week until it ends, then "
            f"{_RESULT_TTL}; of one that was forgotten {PURGED_TTL_S} s",
            "idempotency record: what was published under this name"),
    KeyInfo(f"{WORKER_PREFIX}<worker id>", "string", _WORKERS, f"TTL {WORKER_TTL_S:g} s",
            "heartbeat: the node name, or JSON with its troubles, circuits and gauges"),
    KeyInfo(WORKERS, "zset", _WORKERS, "one entry a worker; a sweep removes the dead",
            "worker id → last heartbeat"),
    KeyInfo(f"{FENCE_PREFIX}<worker id>", "string", "workers that sweep", f"TTL {FENCE_TTL_S} s",
            "the worker was declared dead and its claims given to others"),
    KeyInfo(SWEEP, "string", "workers that sweep", f"TTL {SWEEP_TTL_MS} ms",
            "a sweep was made just now"),
    KeyInfo(REVOKED, "zset", "clients of remote control, workers",
            f"{REVOKED_LIMIT} ids, TTL {REVOKED_TTL_S} s",
            "revoked task id → when; for workers that start or reconnect"),
    KeyInfo(DLQ, "stream", _WORKERS, f"MAXLEN ~ {DEAD_LETTER_LIMIT}",
            "dead letters with their exact bytes"),
    KeyInfo(DLQ_REPORTED, "string", _WORKERS, "one", "id of the newest dead letter that operators' "
            "webhooks were notified of"),
    KeyInfo(COMPLETIONS, "hash", "workers, api", "some sixty fields",
            "completions by queue system, status and duration"),
    KeyInfo(f"{ENVIRONMENT_PREFIX}<name>", "string", _WORKERS, f"TTL {ENVIRONMENT_TTL_S} s",
            "an environment as workers have it: image, size, versions of its languages"),
    KeyInfo(ISOLATIONS, "hash", _WORKERS, f"TTL {ISOLATIONS_TTL_S} s; one field a worker",
            "worker's process → when, and which isolations its machine can give programs"),
    KeyInfo(COMPLETIONS_LETTER, "string", "workers, api", "one",
            "id of the last dead letter that was looked at for completions"),
    KeyInfo(KEYS, "hash", "api, `crucible keys`",
            f"{KEY_LIMIT} keys and the last {REVOKED_KEY_LIMIT} revoked ones",
            "keys of clients by id, their secrets as SHA-256; `version` counts changes; also the "
            "channel of changes"),
    KeyInfo(KEYS_USED, "hash", "api", "one field a key", "key id → when it was last used"),
    KeyInfo(f"{RATE_PREFIX}key:<key id>, {RATE_PREFIX}tenant:<tenant>:<tier>", "string", "api",
            "TTL: until the rate is wholly free again",
            "microseconds, on the server's clock, from which on nothing of a rate is used (GCRA)"),
    KeyInfo(f"{IN_FLIGHT_PREFIX}<tenant>", "zset", "api, workers",
            "the in-flight maximum of the tenant's tier",
            "idempotency records of evaluations that have not ended → when they are forgotten"),
    KeyInfo(MIGRATION, "string", "api, `crucible migration`", "one",
            "the switches of a migration; also the channel of their changes"),
    KeyInfo(MIGRATION_AUDIT, "stream", "api, `crucible migration`", f"MAXLEN ~ {AUDIT_LIMIT}",
            "who changed the switches"),
    KeyInfo(MISMATCHES, "stream", "api", f"MAXLEN ~ {MISMATCH_LIMIT}",
            "copies whose outcome differs from that of their original"),
    KeyInfo(COMPARED, "hash", "api", "four fields", "how comparisons came out"),
    KeyInfo(COMPARE_RUNS, "set", "`crucible compare`", f"TTL {_RESULT_TTL}",
            "runs of `crucible compare`: what the ids of their evaluations begin with"),
    KeyInfo(SAMPLE, "stream", "api", f"MAXLEN ~ {SAMPLE_LIMIT}, 16 KiB an entry",
            "a few submissions a second, for comparing both queue systems"),
    KeyInfo(f"{LEGACY_PROGRAM_PREFIX}<eval id>", "string", "api",
            "TTL of its idempotency record; deleted when it ends",
            "what an evaluation of the legacy queue is to run"),
    KeyInfo(f"{LEGACY_RESULT_PREFIX}<eval id>", "string", "api", f"TTL {_RESULT_TTL}",
            "how an evaluation of the legacy queue ended, in the form of a result"),
    KeyInfo(WEBHOOKS, "hash", "api, workers", f"{WEBHOOKS_OF_TENANT} fields a tenant",
            "`<tenant>:<webhook id>` → URL, secrets, events; also the channel of changes"),
    KeyInfo(WEBHOOKS_FAILING, "hash", "api, workers", "one field a webhook",
            "the same → since when every attempt has failed"),
    KeyInfo(f"{WEBHOOK_LOG_PREFIX}<tenant>", "stream", _WORKERS,
            f"MAXLEN ~ {WEBHOOK_LOG_LIMIT}, TTL {WEBHOOK_LOG_TTL_S} s",
            "attempts of webhook deliveries, and the answers"),
    KeyInfo(f"{WEBHOOK_DELIVERED_PREFIX}<delivery id>", "string", _WORKERS,
            f"TTL {WEBHOOK_DELIVERED_TTL_S} s, of an attempt under way its timeout",
            "an attempt is under way, or was accepted: a message that comes twice is not delivered "
            "twice"),
    KeyInfo(SESSIONS_WANTED, "list", "api",
            f"{SESSION_CALLS_LIMIT} entries, TTL {SESSION_CALLS_TTL_S} s",
            "sessions that are to be opened, by whichever worker has room"),
    KeyInfo(f"{SESSION_CALLS_PREFIX}<worker>", "list", "api",
            f"{SESSION_CALLS_LIMIT} entries, TTL {SESSION_CALLS_TTL_S} s",
            "cells for the sessions of one worker, and those to be closed"),
    KeyInfo(f"{SESSION_ANSWERS_PREFIX}<api process>", "list", _WORKERS,
            f"one entry a call, TTL {SESSION_ANSWERS_TTL_S} s", "what came of them"),
    KeyInfo(f"{SESSION_HOST_PREFIX}<worker>", "string", _WORKERS,
            f"TTL {SESSION_HOST_TTL_S:g} s",
            "heartbeat of a worker that keeps sessions: how many; without it they are lost"),
    KeyInfo(f"{SESSIONS_OF_PREFIX}<tenant>", "zset", "api, workers",
            "the maximum of the tenant's tier; TTL: the longest life of the newest, and "
            f"{SESSION_CALLS_TTL_S} s",
            "ids of a tenant's sessions → when they were asked for"),
    KeyInfo(f"{SESSION_PREFIX}<tenant>:<session id>", "string", "api, workers",
            f"TTL: its longest life; once it has ended {SESSION_KEPT_TTL_S} s",
            "a session: its worker, what it is like, how it ended"),
    KeyInfo(f"{SESSION_PREFIX}<tenant>:<session id>:opening", "string", "api",
            f"TTL {SESSION_OPENING_TTL_S} s; deleted once it is open",
            "who opens a session that a facade's client has named"),
    KeyInfo(f"{SCHEDULE_PREFIX}<task>", "string", _WORKERS, "TTL: the interval of the task",
            "lease of a scheduled task: the worker that sent it last; sent again once it is gone"),
    KeyInfo(f"{ASSESSMENTS_PREFIX}<tenant>", "zset", "api", "1000 entries, TTL 14 days",
            "ids of a tenant's assessments → when they were made"),
    KeyInfo(f"{ASSESSMENT_PREFIX}head:<id>", "hash", "api, workers", "TTL 14 days",
            "an assessment: what was asked, where it stands"),
    KeyInfo(f"{ASSESSMENT_PREFIX}cases:<id>, {ASSESSMENT_PREFIX}ids:<id>", "list, set", "api",
            "10,000 cases, 64 MiB; TTL 14 days", "its cases, and their ids"),
    KeyInfo(f"{ASSESSMENT_PREFIX}window:<id>", "set", _WORKERS, "128 members",
            "runs that were submitted and are not known to have ended"),
    KeyInfo(f"{ASSESSMENT_PREFIX}runs:<id>", "hash", _WORKERS, "50,000 fields; TTL 14 days",
            "number of a run → how it ended"),
    KeyInfo(f"{ASSESSMENT_PREFIX}lease:<id>", "string", _WORKERS, "TTL 10 s, renewed",
            "which task runs it"),
    KeyInfo(f"{ASSESSMENT_PREFIX}report:<id>", "hash", _WORKERS, "four fields; TTL 14 days",
            "its reports, compressed"),
    KeyInfo(f"{WORKFLOW_PREFIX}<id>", "hash", "api, workers", "200 steps; TTL 7 days",
            "a workflow: its steps, and how those stand that do not wait any more"),
    KeyInfo(f"{WORKFLOW_LEASE_PREFIX}<id>", "string", _WORKERS, "TTL 10 s, renewed",
            "which task runs it"),
    KeyInfo(f"{PIPELINE_PREFIX}<id>", "hash", _WORKERS, "TTL 2 hours; deleted when it ends",
            "a model evaluation pipeline: what was asked, and how its runs ended"),
    KeyInfo(RESERVATIONS, "hash", _WORKERS, "one field a pipeline that runs; leases of 30 s",
            "pipeline → resources it has or waits for"),
    KeyInfo(EVENTS, "stream", "api, workers", "MAXLEN ~ `CRUCIBLE_EVENT_LIMIT`",
            "on the event bus: the transitions of all evaluations; [events.md](events.md)"),
    KeyInfo(f"{EVENT_WRITER_PREFIX}<random>", "string", "api, workers",
            f"TTL {EVENT_WRITER_TTL_S} s",
            "on the event bus: number of a process's last batch, so that none is appended twice"),
    KeyInfo(HISTORIANS, "hash", "historians", f"one field a process; TTL {HISTORIANS_TTL_S} s",
            f"on the event bus: lag, circuit and counts of each; the consumer group of the stream "
            f"is `{HISTORIAN_GROUP}`"),
    KeyInfo(f"{BINDING_PREFIX}<exchange>", "set", "clients of remote control, stock workers",
            f"that of replies: one member a waiting client, swept after {BINDING_TTL_S} s",
            r"`<routing key>\x06\x16<pattern>\x06\x16<list>`: queues bound to an exchange"),
    KeyInfo(BINDING_DEADLINES, "zset", "clients of remote control, stock workers",
            "one entry an exchange",
            "exchange → milliseconds after which bindings left behind may be swept"),
    KeyInfo(f"<uuid>.{REPLY_EXCHANGE}", "list", _WORKERS,
            f"TTL {REPLY_TTL_S} s; deleted by the client", "replies to one remote control request"),
    KeyInfo(f"/<db>.{PIDBOX}", "channel", "clients of remote control", "",
            "remote control requests"),
    KeyInfo(f"/<db>.{EVENT_EXCHANGE}/<routing key>", "channel", _EITHER, "",
            "events, as Flower reads them"),
)  # fmt: skip


class ChordNames(NamedTuple):
    """The keys of one chord (celery ``backends/redis.py`` 5.7); the first five share a TTL.

    Attributes:
        parts: the parts that ended.
        extra: parts that were added while it ran.
        size: parts it waits for.
        counted: which tasks were counted.
        structure: of a header with groups in it.
        mark: who sends the body, or ``done``.
    """

    parts: str
    extra: str
    size: str
    counted: str
    structure: str
    mark: str


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

    def chord(self, group_id: str) -> ChordNames:
        """The keys of one chord."""
        base = self.group(group_id)
        return ChordNames(f"{base}.j", f"{base}.t", f"{base}.s", f"{base}.d", base, f"{base}.c")

    def idempotency(self, name: str) -> str:
        """The idempotency record of one publication."""
        return f"{self.prefix}{IDEMPOTENCY_PREFIX}{name}"

    def worker(self, worker_id: str) -> str:
        """The heartbeat of one worker process."""
        return f"{self.prefix}{WORKER_PREFIX}{worker_id}"

    def fence(self, worker_id: str) -> str:
        """The mark that a worker was declared dead."""
        return f"{self.prefix}{FENCE_PREFIX}{worker_id}"

    @property
    def sweep(self) -> str:
        """The mark that a sweep was just made."""
        return f"{self.prefix}{SWEEP}"

    @property
    def workers(self) -> str:
        """The known workers, dead or alive."""
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
    def dlq_reported(self) -> str:
        """The newest dead letter that operators were notified of."""
        return f"{self.prefix}{DLQ_REPORTED}"

    @property
    def completions(self) -> str:
        """The counts of completions."""
        return f"{self.prefix}{COMPLETIONS}"

    def environment(self, name: str) -> str:
        """What workers announced of one environment."""
        return f"{self.prefix}{ENVIRONMENT_PREFIX}{name}"

    @property
    def isolations(self) -> str:
        """What workers announced of isolations."""
        return f"{self.prefix}{ISOLATIONS}"

    @property
    def api_keys(self) -> str:
        """The keys of clients, and the channel of their changes."""
        return f"{self.prefix}{KEYS}"

    @property
    def api_keys_used(self) -> str:
        """When keys of clients were last used."""
        return f"{self.prefix}{KEYS_USED}"

    def rate_of_key(self, key_id: str) -> str:
        """What a key has used of its rate."""
        return f"{self.prefix}{RATE_PREFIX}key:{key_id}"

    def rate_of_tenant(self, tenant: str, tier: str) -> str:
        """What all keys of a tenant that are of one tier have used of their common rate."""
        return f"{self.prefix}{RATE_PREFIX}tenant:{tenant}:{tier}"

    def in_flight(self, tenant: str) -> str:
        """The evaluations of a tenant that have not ended."""
        return f"{self.prefix}{IN_FLIGHT_PREFIX}{tenant}"

    @property
    def completions_letter(self) -> str:
        """The position in the dead letters up to which completions were counted."""
        return f"{self.prefix}{COMPLETIONS_LETTER}"

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
        """The stream of mismatches."""
        return f"{self.prefix}{MISMATCHES}"

    @property
    def compared(self) -> str:
        """The counts of comparisons."""
        return f"{self.prefix}{COMPARED}"

    @property
    def compare_runs(self) -> str:
        """The runs of comparisons on purpose."""
        return f"{self.prefix}{COMPARE_RUNS}"

    @property
    def sample(self) -> str:
        """The stream of sampled submissions."""
        return f"{self.prefix}{SAMPLE}"

    @property
    def events(self) -> str:
        """The stream of events, on the event bus."""
        return f"{self.prefix}{EVENTS}"

    def event_writer(self, writer_id: str) -> str:
        """The number of a writer's last batch, on the event bus."""
        return f"{self.prefix}{EVENT_WRITER_PREFIX}{writer_id}"

    @property
    def historians(self) -> str:
        """The state of each historian, on the event bus."""
        return f"{self.prefix}{HISTORIANS}"

    def schedule(self, task: str) -> str:
        """The lease of a scheduled task."""
        return f"{self.prefix}{SCHEDULE_PREFIX}{task}"

    def legacy_program(self, eval_id: str) -> str:
        """What one evaluation of the legacy queue was asked to run."""
        return f"{self.prefix}{LEGACY_PROGRAM_PREFIX}{eval_id}"

    def legacy_result(self, eval_id: str) -> str:
        """The result of one evaluation of the legacy queue."""
        return f"{self.prefix}{LEGACY_RESULT_PREFIX}{eval_id}"

    @property
    def webhooks(self) -> str:
        """The registered webhooks, and the channel of their changes."""
        return f"{self.prefix}{WEBHOOKS}"

    @property
    def webhooks_failing(self) -> str:
        """Since when webhooks fail."""
        return f"{self.prefix}{WEBHOOKS_FAILING}"

    def webhook_log(self, tenant: str) -> str:
        """The stream of attempts of a tenant's deliveries."""
        return f"{self.prefix}{WEBHOOK_LOG_PREFIX}{tenant}"

    def webhook_delivered(self, delivery_id: str) -> str:
        """That a delivery was accepted."""
        return f"{self.prefix}{WEBHOOK_DELIVERED_PREFIX}{delivery_id}"

    def assessments(self, tenant: str) -> str:
        """The assessments of a tenant."""
        return f"{self.prefix}{ASSESSMENTS_PREFIX}{tenant}"

    def assessment(self, assessment_id: str, part: str = "head") -> str:
        """A part of one assessment, such as its ``head``, ``cases`` or ``runs``."""
        # The part comes first: behind an id with a tenant it could be another's id.
        return f"{self.prefix}{ASSESSMENT_PREFIX}{part}:{assessment_id}"

    def workflow(self, workflow_id: str) -> str:
        """One workflow."""
        return f"{self.prefix}{WORKFLOW_PREFIX}{workflow_id}"

    def workflow_lease(self, workflow_id: str) -> str:
        """The lease of who runs it."""
        return f"{self.prefix}{WORKFLOW_LEASE_PREFIX}{workflow_id}"

    def pipeline(self, pipeline_id: str) -> str:
        """One model evaluation pipeline."""
        return f"{self.prefix}{PIPELINE_PREFIX}{pipeline_id}"

    @property
    def reservations(self) -> str:
        """Who has which resources, and who waits for them."""
        return f"{self.prefix}{RESERVATIONS}"

    @property
    def sessions_wanted(self) -> str:
        """The list of sessions to be opened."""
        return f"{self.prefix}{SESSIONS_WANTED}"

    def session_calls(self, host: str) -> str:
        """The list of calls for sessions of one worker."""
        return f"{self.prefix}{SESSION_CALLS_PREFIX}{host}"

    def session_answers(self, api: str) -> str:
        """The list of answers for one api process."""
        return f"{self.prefix}{SESSION_ANSWERS_PREFIX}{api}"

    def session_host(self, host: str) -> str:
        """The heartbeat of a worker that keeps sessions."""
        return f"{self.prefix}{SESSION_HOST_PREFIX}{host}"

    def sessions_of(self, tenant: str) -> str:
        """The ids of a tenant's sessions."""
        return f"{self.prefix}{SESSIONS_OF_PREFIX}{tenant}"

    def session(self, tenant: str, session_id: str) -> str:
        """What is known of one session."""
        return f"{self.prefix}{SESSION_PREFIX}{tenant}:{session_id}"

"""The tables and their indexes, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
)
from sqlalchemy.dialects import postgresql

from crucible.history.lengths import EVAL_ID, NAME, TASK_ID, TENANT, WORD

metadata = MetaData()


def text(length: int) -> String:
    """Text that is compared byte by byte: an index in another order could not give pages."""
    exact = postgresql.VARCHAR(length, collation="C")
    return String(length).with_variant(exact, "postgresql")


evaluations = Table(
    "evaluations",
    metadata,
    Column("tenant", text(TENANT), nullable=False),
    Column("eval_id", text(EVAL_ID), nullable=False),
    Column("celery_task_id", String(TASK_ID)),
    Column("submitted", Boolean, nullable=False, server_default=false()),
    Column("created_ms", BigInteger, nullable=False),
    Column("language", text(NAME)),
    Column("environment", text(NAME)),
    Column("priority", Integer),
    Column("code_bytes", BigInteger),
    Column("metadata", Text),
    Column("queue", text(NAME)),
    Column("queue_system", String(20), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("status", text(20), nullable=False),
    Column("verdict", text(NAME)),
    Column("retry_count", Integer, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("worker", String(TASK_ID)),
    Column("message", Text),
    Column("progress", Float),
    Column("started_ms", BigInteger),
    Column("finished_ms", BigInteger),
    Column("sandbox_ms", BigInteger),
    Column("run_ms", BigInteger),
    Column("wall_time_ms", BigInteger),
    Column("cpu_time_ms", BigInteger),
    Column("memory_peak_kb", BigInteger),
    Column("exit_code", BigInteger),
    Column("signal", BigInteger),
    Column("isolation", String(20)),
    Column("output_bytes", BigInteger),
    Column("error_bytes", BigInteger),
    Column("output_truncated", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("tenant", "eval_id"),
)

transitions = Table(
    "transitions",
    metadata,
    Column("tenant", text(TENANT), nullable=False),
    Column("eval_id", text(EVAL_ID), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("queue_system", text(20), nullable=False),
    Column("transition", text(20), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("worker", String(TASK_ID)),
    Column("verdict", text(NAME)),
    Column("message", Text),
    PrimaryKeyConstraint("tenant", "eval_id", "seq", "queue_system", "transition"),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    Column("tenant", text(TENANT), nullable=False),
    Column("eval_id", text(EVAL_ID), nullable=False),
    Column("queue_system", text(20), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("retry_count", Integer, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("transition", text(20), nullable=False),
    Column("worker", String(TASK_ID)),
    Column("started_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("verdict", text(NAME)),
    Column("wall_time_ms", BigInteger),
    Column("cpu_time_ms", BigInteger),
    Column("memory_peak_kb", BigInteger),
    Column("message", Text),
    PrimaryKeyConstraint(
        "tenant", "eval_id", "queue_system", "attempt", "retry_count", "deliveries"
    ),
    sqlite_with_rowid=False,
)

#: What is searched for: fields of metadata by their names, and words under the empty name.
labels = Table(
    "labels",
    metadata,
    Column("tenant", text(TENANT), nullable=False),
    Column("name", text(WORD), nullable=False),
    Column("value", text(WORD), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("eval_id", text(EVAL_ID), nullable=False),
    PrimaryKeyConstraint("tenant", "name", "value", "created_ms", "eval_id"),
    Index("labels_of", "tenant", "eval_id"),
    sqlite_with_rowid=False,
)

#: Evaluations that were forgotten on request: their late events are not written again.
purged = Table(
    "purged",
    metadata,
    Column("tenant", text(TENANT), nullable=False),
    Column("eval_id", text(EVAL_ID), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "eval_id"),
    sqlite_with_rowid=False,
)

#: Fields that the list filters by, each with an index that gives its pages in order.
FILTERED = ("status", "verdict", "language", "queue")
Index("evaluations_newest", *(evaluations.c[n] for n in ("tenant", "created_ms", "eval_id")))
for _name in FILTERED:
    Index(
        f"evaluations_{_name}",
        *(evaluations.c[n] for n in ("tenant", _name, "created_ms", "eval_id")),
    )

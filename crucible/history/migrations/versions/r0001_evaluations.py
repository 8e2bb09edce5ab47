"""Evaluations, their transitions, and their attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from crucible.history.migrations.columns import exact

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the three tables."""
    op.create_table(
        "evaluations",
        sa.Column("tenant", exact(64), nullable=False),
        sa.Column("eval_id", exact(128), nullable=False),
        sa.Column("celery_task_id", sa.String(255)),
        sa.Column("submitted", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("language", exact(128)),
        sa.Column("environment", exact(128)),
        sa.Column("priority", sa.Integer),
        sa.Column("code_bytes", sa.BigInteger),
        sa.Column("metadata", sa.Text),
        sa.Column("queue", exact(128)),
        sa.Column("queue_system", sa.String(20), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("status", exact(20), nullable=False),
        sa.Column("verdict", exact(128)),
        sa.Column("retry_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("worker", sa.String(255)),
        sa.Column("message", sa.Text),
        sa.Column("progress", sa.Float),
        *(sa.Column(name, sa.BigInteger) for name in _USAGE),
        sa.Column("isolation", sa.String(20)),
        sa.Column("output_bytes", sa.BigInteger),
        sa.Column("error_bytes", sa.BigInteger),
        sa.Column("output_truncated", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("tenant", "eval_id"),
    )
    op.create_table(
        "transitions",
        sa.Column("tenant", exact(64), nullable=False),
        sa.Column("eval_id", exact(128), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("queue_system", exact(20), nullable=False),
        sa.Column("transition", exact(20), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.String(255)),
        sa.Column("verdict", exact(128)),
        sa.Column("message", sa.Text),
        sa.PrimaryKeyConstraint("tenant", "eval_id", "seq", "queue_system", "transition"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempts",
        sa.Column("tenant", exact(64), nullable=False),
        sa.Column("eval_id", exact(128), nullable=False),
        sa.Column("queue_system", exact(20), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("retry_count", sa.Integer, nullable=False),
        sa.Column("deliveries", sa.Integer, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("transition", exact(20), nullable=False),
        sa.Column("worker", sa.String(255)),
        sa.Column("started_ms", sa.BigInteger),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("verdict", exact(128)),
        sa.Column("wall_time_ms", sa.BigInteger),
        sa.Column("cpu_time_ms", sa.BigInteger),
        sa.Column("memory_peak_kb", sa.BigInteger),
        sa.Column("message", sa.Text),
        sa.PrimaryKeyConstraint(
            "tenant", "eval_id", "queue_system", "attempt", "retry_count", "deliveries"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("evaluations_newest", "evaluations", ["tenant", "created_ms", "eval_id"])


def downgrade() -> None:
    """Drop them."""
    for table in ("attempts", "transitions", "evaluations"):
        op.drop_table(table)


_USAGE = (
    "started_ms",
    "finished_ms",
    "sandbox_ms",
    "run_ms",
    "wall_time_ms",
    "cpu_time_ms",
    "memory_peak_kb",
    "exit_code",
    "signal",
)

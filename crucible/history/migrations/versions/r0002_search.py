"""Search: labels, an index for each filter of the list; and what was forgotten on request."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from crucible.history.migrations.columns import exact

revision = "0002"
down_revision = "0001"

_FILTERED = ("status", "verdict", "language", "queue")


def upgrade() -> None:
    """Make two tables and four indexes. Labels of evaluations that were there are not made."""
    op.create_table(
        "labels",
        sa.Column("tenant", exact(64), nullable=False),
        sa.Column("name", exact(128), nullable=False),
        sa.Column("value", exact(128), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("eval_id", exact(128), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", "value", "created_ms", "eval_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("labels_of", "labels", ["tenant", "eval_id"])
    op.create_table(
        "purged",
        sa.Column("tenant", exact(64), nullable=False),
        sa.Column("eval_id", exact(128), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "eval_id"),
        sqlite_with_rowid=False,
    )
    for name in _FILTERED:
        op.create_index(
            f"evaluations_{name}", "evaluations", ["tenant", name, "created_ms", "eval_id"]
        )


def downgrade() -> None:
    """Drop them; what the evaluations themselves say stays."""
    for name in _FILTERED:
        op.drop_index(f"evaluations_{name}", "evaluations")
    op.drop_table("purged")
    op.drop_table("labels")

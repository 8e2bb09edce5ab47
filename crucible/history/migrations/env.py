"""Runs migrations on the connection that ``history.migrate`` opened."""

from __future__ import annotations

from alembic import context

from crucible.history.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

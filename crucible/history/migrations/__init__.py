"""Alembic's environment: one module a revision below ``versions``."""

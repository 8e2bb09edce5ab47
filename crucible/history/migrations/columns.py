"""Types of columns that several revisions share. They must never change: revisions are final."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.dialects import postgresql


def exact(length: int) -> String:
    """Text that is compared byte by byte."""
    return String(length).with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")

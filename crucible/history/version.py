"""Which version a database's schema has; without Alembic, which takes memory and only moves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from crucible.errors import RequirementError
from crucible.history.database import translated

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

#: Every version, the oldest first; ``migrations/versions`` has a file for each.
VERSIONS = ("0001", "0002")
#: The one that this code works with.
NEWEST = VERSIONS[-1]
#: Where Alembic keeps it.
_TABLE = "alembic_version"


def read_version(connection: Connection) -> str | None:
    """The version of a schema; None where there is none yet."""
    if not inspect(connection).has_table(_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {_TABLE}")).scalar()  # noqa: S608 - a constant
    return found


async def require_newest(engine: AsyncEngine) -> None:
    """Refuse a database whose schema is not that of this code.

    Raises:
        RequirementError: it is older, newer or not there; the remedy is what to type.
        HistoryError: the database does not answer.
    """
    with translated():
        async with engine.connect() as connection:
            found = await connection.run_sync(read_version)
    if found == NEWEST:
        return
    if found is None:
        raise RequirementError("the history's database has no tables", "crucible historian migrate")
    if found in VERSIONS:
        raise RequirementError(
            f"the history's schema is version {found}, this crucible needs {NEWEST}",
            "crucible historian migrate",
        )
    raise RequirementError(
        f"the history's schema is version {found}, newer than this crucible knows ({NEWEST})",
        f"upgrade crucible, or downgrade with the newer one: crucible historian migrate {NEWEST}",
    )

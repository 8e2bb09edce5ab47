"""Moves the schema between versions, and refuses to work with another one than this code's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import text

from crucible.errors import RequirementError, SettingsError
from crucible.history.database import translated

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

#: Any number that no other program on the database locks with.
_LOCK = 0x6372_7563


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def newest() -> str:
    """The version of the schema that this code works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


async def version_of(engine: AsyncEngine) -> str | None:
    """The version of a database's schema; None where there is none yet.

    Raises:
        HistoryError: the database does not answer.
    """
    with translated():
        async with engine.connect() as connection:
            return await connection.run_sync(_version)


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def require_newest(engine: AsyncEngine) -> None:
    """Refuse a database whose schema is not that of this code.

    Raises:
        RequirementError: it is older, newer or not there; the remedy is what to type.
        HistoryError: the database does not answer.
    """
    found, wanted = await version_of(engine), newest()
    if found == wanted:
        return
    if found is None:
        raise RequirementError("the history's database has no tables", "crucible historian migrate")
    if found in _known():
        raise RequirementError(
            f"the history's schema is version {found}, this crucible needs {wanted}",
            "crucible historian migrate",
        )
    raise RequirementError(
        f"the history's schema is version {found}, newer than this crucible knows ({wanted})",
        f"upgrade crucible, or downgrade with the newer one: crucible historian migrate {wanted}",
    )


def _known() -> list[str]:
    return [one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions()]


async def migrate(engine: AsyncEngine, to: str = "head") -> tuple[str | None, str | None]:
    """Upgrade or downgrade the schema, in one transaction.

    Args:
        engine: of the database.
        to: a version; ``head`` for the newest, ``base`` to drop everything.

    Returns:
        The versions before and after.

    Raises:
        SettingsError: there is no such version.
        HistoryError: the database refused, and is as it was.
    """
    with translated():
        async with engine.execution_options(writes=True).begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            return await connection.run_sync(_migrate, to)


def _migrate(connection: Connection, to: str) -> tuple[str | None, str | None]:
    config, before = _config(), _version(connection)
    if before is not None and before not in _known():
        raise SettingsError(
            "migrate", f"the schema is version {before}, which only a newer crucible knows"
        )
    config.attributes["connection"] = connection
    try:
        # Alembic knows which way a version lies only for the one of the two commands that fits.
        if _is_below(to, before):
            command.downgrade(config, to)
        else:
            command.upgrade(config, to)
    except CommandError as error:
        raise SettingsError("migrate", str(error)) from None
    return before, _version(connection)


def _is_below(to: str, current: str | None) -> bool:
    """Whether ``to`` is an older version than the current one."""
    if current is None or to == "head":
        return False
    if to == "base":
        return True
    oldest_first = _known()[::-1]
    if to not in oldest_first or current not in oldest_first:
        return False
    return oldest_first.index(to) < oldest_first.index(current)

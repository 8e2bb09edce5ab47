"""Moves the schema between versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import text

from crucible.errors import SettingsError
from crucible.history.database import translated
from crucible.history.version import VERSIONS, read_version

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

#: Any number that no other program on the database locks with.
_LOCK = 0x6372_7563


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


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
    config, before = _config(), read_version(connection)
    if before is not None and before not in VERSIONS:
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
    return before, read_version(connection)


def _is_below(to: str, current: str | None) -> bool:
    """Whether ``to`` is an older version than the current one."""
    if current is None or to == "head":
        return False
    if to == "base":
        return True
    if to not in VERSIONS or current not in VERSIONS:
        return False
    return VERSIONS.index(to) < VERSIONS.index(current)

"""The database that ``crucible up`` keeps in its data directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.errors import HistoryError, RequirementError, SettingsError
from crucible.history.database import open_database
from crucible.history.migrate import migrate

if TYPE_CHECKING:
    from pathlib import Path


async def prepare_own(url: str) -> None:
    """Make the database, or bring it to this version.

    Raises:
        RequirementError: it is of a newer version, or cannot be used.
    """
    try:
        async with open_database(url) as engine:
            await migrate(engine)
    except (HistoryError, SettingsError) as error:
        raise RequirementError(f"cannot use {url.partition(':///')[2]}: {error}") from None


def own_url(data_dir: Path) -> str:
    """The URL of the database in a data directory, which is made where it is missing.

    Raises:
        RequirementError: the directory cannot be made.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequirementError(f"cannot use {data_dir}: {error.strerror}") from None
    return f"sqlite:///{data_dir.absolute()}/history.sqlite"

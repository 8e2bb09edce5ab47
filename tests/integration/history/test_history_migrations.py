"""Every migration, up and down, with data."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from support.history_rig import life, migrated, rows_of
from support.worker_rig import crucible

from crucible.errors import RequirementError, SettingsError
from crucible.history.database import open_database
from crucible.history.migrate import migrate
from crucible.history.migrations import versions
from crucible.history.schema import evaluations, labels, metadata
from crucible.history.version import NEWEST, VERSIONS, require_newest
from crucible.history.writer import HistoryWriter


async def test_migrations_make_the_schema_of_the_code(history_url: str) -> None:
    """What the newest migration leaves is what the code reads and writes."""
    async with migrated(history_url) as engine, engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    assert differences == []


async def test_data_survives_downgrades_and_upgrades(history_url: str) -> None:
    """Evaluations stay; labels, which the first version does not know, are made anew from then."""
    async with migrated(history_url) as engine:
        writer = HistoryWriter(engine)
        await writer.write(life("one", metadata={"run": "a"}))
        before = await rows_of(engine, evaluations)
        assert await migrate(engine, "0001") == (NEWEST, "0001")
        assert await rows_of(engine, evaluations) == before
        assert await migrate(engine) == ("0001", NEWEST)
        assert await rows_of(engine, evaluations) == before
        assert await rows_of(engine, labels) == []
        await writer.write(life("one", metadata={"run": "a"}))
        assert len(await rows_of(engine, labels)) == 3
        assert await migrate(engine, "base") == (NEWEST, None)
        assert await migrate(engine) == (None, NEWEST)


async def test_another_schema_is_refused(history_url: str) -> None:
    """With what to type: none, an older one, a newer one."""
    async with open_database(history_url) as engine:
        with pytest.raises(RequirementError, match=r"no tables.*crucible historian migrate"):
            await require_newest(engine)
        await migrate(engine, "0001")
        with pytest.raises(RequirementError, match=r"version 0001.*crucible historian migrate"):
            await require_newest(engine)
        await migrate(engine)
        await require_newest(engine)
        async with engine.execution_options(writes=True).begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(RequirementError, match=rf"9999.*historian migrate {NEWEST}"):
            await require_newest(engine)
        with pytest.raises(SettingsError, match="9999, which only a newer crucible knows"):
            await migrate(engine)


async def test_an_unknown_version_is_refused(history_url: str) -> None:
    """And nothing changes."""
    async with migrated(history_url) as engine:
        with pytest.raises(SettingsError, match="nonsense"):
            await migrate(engine, "nonsense")
        await require_newest(engine)


async def test_the_command_migrates(history_url: str, redis_url: str) -> None:
    """And a historian does not start before, and says so."""
    variables = {"CRUCIBLE_HISTORY_URL": history_url, "CRUCIBLE_EVENT_BUS_URL": redis_url}
    async with crucible(["historian"], **variables) as refused:
        assert await refused.wait() == 1
        assert "(crucible historian migrate)" in refused.log
    async with crucible(["historian", "migrate"], **variables) as migrating:
        assert await migrating.wait() == 0, migrating.log
        assert f"was none and is {NEWEST} now" in migrating.log
    async with crucible(["historian", "migrate", "--json"], **variables) as migrating:
        assert await migrating.wait() == 0, migrating.log
        assert f'"after": "{NEWEST}"' in migrating.log


def test_every_migration_is_a_known_version() -> None:
    """In their order: a historian reads no files of migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(versions.__file__).parents[1]))
    found = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(found[::-1]) == VERSIONS

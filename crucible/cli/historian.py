"""``crucible historian``: write the history; ``migrate`` its schema, ``repair`` what is missing."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.cli.services.historian import SERVICE, history_url, run_historian
from crucible.settings import Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from crucible.evaluation.history_repair import Repaired

app = typer.Typer(
    help="Write the history of evaluations from the event bus to SQL.",
    invoke_without_command=True,
)


@app.callback()
@with_settings(*SERVICE.settings)
def command(settings: Settings, context: typer.Context) -> None:
    """Write the history of evaluations from the event bus to SQL, until SIGTERM.

    Several of them share the work.
    """
    if context.invoked_subcommand is not None:
        return
    run_historian(settings)


@app.command()
@with_settings("history_url")
def migrate(
    settings: Settings,
    to: Annotated[
        str, typer.Argument(help="A version; head is the newest, base removes all tables.")
    ] = "head",
    as_json: Json = False,
) -> None:
    """Bring the database's schema to this version of crucible, or to another one."""
    before, after = asyncio.run(_migrate(history_url(settings), to))
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        typer.echo(f"the schema's version is {after or 'none'} already")
    else:
        typer.echo(f"the schema's version was {before or 'none'} and is {after or 'none'} now")


async def _migrate(url: str, to: str) -> tuple[str | None, str | None]:
    from crucible.history.database import open_database
    from crucible.history.migrate import migrate as move

    async with open_database(url, statement_s=3600.0) as engine:
        return await move(engine, to)


@app.command()
@with_settings("history_url", Section.TASK_QUEUE)
def repair(settings: Settings, as_json: Json = False) -> None:
    """Restore what the event bus lost, from the submissions and results that are still kept."""
    done = asyncio.run(_repair(settings, history_url(settings)))
    if as_json:
        print_json(asdict(done))
    else:
        typer.echo(
            f"looked at {done.looked_at} evaluations: {done.submissions} submissions and "
            f"{done.ends} ends were missing"
        )


async def _repair(settings: Settings, url: str) -> Repaired:
    from crucible.broker.redis.connection import TYPED_CONNECT_TIMEOUT_S, open_client
    from crucible.evaluation.history_repair import Repair
    from crucible.history.database import open_database
    from crucible.history.version import require_newest
    from crucible.history.writer import HistoryWriter
    from crucible.redis_keys import Keys

    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    async with (
        open_database(url) as engine,
        open_client(settings.celery_broker_url, connect_timeout_s=TYPED_CONNECT_TIMEOUT_S) as queue,
        open_client(settings.result_url, connect_timeout_s=TYPED_CONNECT_TIMEOUT_S) as results,
    ):
        await require_newest(engine)
        return await Repair(queue, results, keys, HistoryWriter(engine)).run()

"""``crucible sessions``: interpreters that are kept between requests."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.client import Url, api_of
from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.client.sessions import (
    CELL_S,
    CellResult,
    SessionOptions,
    all_open,
    end_one,
    open_one,
    run_cell,
)
from crucible.client.transport import Transport
from crucible.settings import Settings
from crucible.settings.sections import Section

app = typer.Typer(help="Interpreters that are kept between requests.", no_args_is_help=True)

SessionId = Annotated[str, typer.Argument(metavar="ID", help="Its id, as list prints it.")]


def _transport(settings: Settings, url: str | None) -> Transport:
    api = api_of(url, settings)
    return Transport(api.url, api.key, retry_for_s=0)


@app.command("list")
@with_settings(Section.LISTENING)
def list_(settings: Settings, url: Url = None, as_json: Json = False) -> None:
    """Print the open sessions, the oldest first."""

    async def ask() -> Any:
        async with _transport(settings, url) as transport:
            return await all_open(transport)

    found = asyncio.run(ask())
    if as_json:
        print_json(found)
        return
    table = Table("id", "status", "environment", "cells", "last used", box=None)
    for one in found:
        used = one.last_used_at or ""
        table.add_row(one.id, one.status, one.environment, str(one.cells), used)
    Console().print(table if found else "no sessions")


@app.command("open")
@with_settings(Section.LISTENING)
def open_(
    settings: Settings,
    environment: Annotated[
        str | None, typer.Option(help="Image that the interpreter runs in.")
    ] = None,
    idle_timeout_s: Annotated[
        float | None, typer.Option(help="Seconds without a cell after which it ends.")
    ] = None,
    total_timeout_s: Annotated[
        float | None, typer.Option(help="Seconds after which it ends in any case.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Open a session and print its id."""
    options = SessionOptions()
    if environment is not None:
        options["environment"] = environment
    if idle_timeout_s is not None:
        options["idle_timeout_s"] = idle_timeout_s
    if total_timeout_s is not None:
        options["total_timeout_s"] = total_timeout_s

    async def ask() -> Any:
        async with _transport(settings, url) as transport:
            return await open_one(transport, options)

    made = asyncio.run(ask())
    if as_json:
        print_json(made)
    else:
        typer.echo(made.id)


@app.command("execute")
@with_settings(Section.LISTENING)
def execute(
    settings: Settings,
    session_id: SessionId,
    code: Annotated[str, typer.Argument(help="Python; - reads it from standard input.")],
    timeout_s: Annotated[
        float, typer.Option(help="Seconds after which the cell is interrupted.")
    ] = CELL_S,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Run a cell and print what it wrote; exit code 1 where it raised or was interrupted."""
    cell = sys.stdin.read() if code == "-" else code

    async def ask() -> CellResult:
        async with _transport(settings, url) as transport:
            return await run_cell(transport, session_id, cell, timeout_s, ())

    result = asyncio.run(ask())
    if as_json:
        print_json(result)
    else:
        _print_cell(result)
    if result.status != "ok":
        raise typer.Exit(1)


def _print_cell(result: CellResult) -> None:
    typer.echo(result.stdout, nl=False)
    typer.echo(result.stderr, nl=False, err=True)
    for shown in result.display:
        typer.echo(shown.get("text/plain") or f"({', '.join(shown)})")
    if result.error is not None:
        typer.echo("\n".join(result.error.traceback), err=True)


@app.command("close")
@with_settings(Section.LISTENING)
def close(
    settings: Settings, session_id: SessionId, url: Url = None, as_json: Json = False
) -> None:
    """End a session; a cell that runs is killed."""

    async def ask() -> Any:
        async with _transport(settings, url) as transport:
            return await end_one(transport, session_id)

    ended = asyncio.run(ask())
    if as_json:
        print_json(ended)
    else:
        typer.echo(f"{ended.id} {ended.status} ({ended.reason})")

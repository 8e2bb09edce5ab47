"""``crucible list``: evaluations of the history, newest first."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from crucible.cli.client import Api, Url, api_of, ask_api
from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.client.requests import query_of
from crucible.settings import Settings
from crucible.settings.sections import Section

_PAGE = 500

Filter = Annotated[str | None, typer.Option(show_default=False)]


@with_settings(Section.LISTENING)
def command(
    settings: Settings,
    status: Annotated[
        str | None, typer.Option(help="Only these, separated by commas.", show_default=False)
    ] = None,
    verdict: Annotated[
        str | None, typer.Option(help="Only these, separated by commas.", show_default=False)
    ] = None,
    language: Filter = None,
    queue: Filter = None,
    tenant: Annotated[
        str | None, typer.Option(help="Of another tenant; for admins.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Accepted then or later.", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="Accepted before.", show_default=False)] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE; may be repeated.", show_default=False)
    ] = None,
    q: Annotated[
        str | None, typer.Option("--query", "-q", help="Words to search for.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Evaluations at most.")] = 50,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List evaluations, newest first; needs the history."""
    filters: dict[str, Any] = {
        "status": status,
        "verdict": verdict,
        "language": language,
        "queue": queue,
        "tenant": tenant,
        "since": since,
        "until": until,
        "q": q,
    }
    for pair in metadata or []:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"--metadata {pair!r} is not KEY=VALUE")
        filters[f"metadata.{name}"] = value
    found = asyncio.run(_ask(api_of(url, settings), filters, limit))
    if as_json:
        print_json(found)
        return
    table = Table(
        Column("eval_id", no_wrap=True),
        "status",
        "verdict",
        "language",
        "queue",
        "created",
        "ms",
        box=None,
    )
    for one in found:
        timing = one.get("timing_ms") or {}
        row = [one[name] for name in ("eval_id", "status", "verdict", "language", "queue")]
        table.add_row(*(str(cell or "") for cell in [*row, one["created_at"], timing.get("total")]))
    Console(width=None if Console().is_terminal else 200).print(table)


class Page(msgspec.Struct):
    """What one page of evaluations has at least."""

    items: list[dict[str, Any]]
    next_cursor: str | None


async def _ask(api: Api, filters: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while len(found) < limit:
        asked = {**filters, "limit": min(_PAGE, limit - len(found)), "cursor": cursor}
        page = await ask_api(api, "GET", f"/api/eval{query_of(asked)}", kind=Page)
        found += islice(page["items"], limit - len(found))
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return found

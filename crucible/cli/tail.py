"""``crucible tail``: follows the events of evaluations."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from crucible.cli.client import Api, Url, api_of, path_of
from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.client import AsyncCrucible, Event, Resync
from crucible.settings import Settings
from crucible.settings.sections import Section

#: Seconds without the API after which it is given up.
RETRY_FOR_S = 5.0


@with_settings(Section.LISTENING)
def command(
    settings: Settings,
    eval_id: Annotated[
        str | None,
        typer.Argument(help="Only this evaluation, up to its end.", show_default=False),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only these statuses, separated by commas.", show_default=False),
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print what happens to evaluations, as it happens; Ctrl-C ends it.

    A connection that ends is made again and goes on where it was.
    """
    if eval_id is not None:
        path_of(eval_id)
        if status is not None:
            raise typer.BadParameter("is for all evaluations, not for one", param_hint="--status")
    asyncio.run(_tail(api_of(url, settings), eval_id, status, as_json))


async def _tail(api: Api, eval_id: str | None, status: str | None, as_json: bool) -> None:
    async with AsyncCrucible(api.url, api.key, retry_for_s=RETRY_FOR_S) as client:
        async for event in client.events(eval_id, status=status):
            if isinstance(event, Resync):
                typer.echo("crucible: events may be missing here", err=True)
            else:
                typer.echo(msgspec.json.encode(event) if as_json else _line(event))


def _line(event: Event) -> str:
    at = datetime.fromtimestamp((event.at or 0) / 1000).astimezone()
    verdict = f" ({event.verdict})" if event.verdict else ""
    progress = f" {event.progress:g} %" if isinstance(event.progress, (int, float)) else ""
    moment = at.isoformat(sep=" ", timespec="milliseconds")[11:23]
    return f"{moment}  {event.eval_id}  {event.status}{verdict}{progress}"

"""``crucible dlq``: messages that could not be run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.cli.queues import connected
from crucible.errors import CrucibleError, NotFound
from crucible.evaluation.transitions import scoped_of
from crucible.settings import Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from crucible.broker.claiming.deadletters import DeadLetter

app = typer.Typer(help="Messages that could not be run.", no_args_is_help=True)

#: Dead letters listed by one request while all are replayed.
_PAGE = 500
_UNKNOWN = "there is no such dead letter"


@app.command("list")
@with_settings(Section.TASK_QUEUE)
def list_(
    settings: Settings,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 50,
    as_json: Json = False,
) -> None:
    """Print the newest dead letters."""
    from crucible.broker.claiming.deadletters import shown

    letters = asyncio.run(_page(settings, limit))
    if as_json:
        print_json([shown(letter) for letter in letters])
        return
    table = Table("id", "at", "queue", "reason", "task", box=None, header_style="bold")
    for letter in letters:
        name = f"{letter.task} {letter.task_id}".strip() or letter.detail[:60]
        table.add_row(letter.letter_id, _time(letter), letter.queue, letter.reason, name)
    Console().print(table if letters else "no dead letters")


async def _page(settings: Settings, limit: int) -> list[DeadLetter]:
    async with connected(settings) as admin:
        return await admin.dead_letters.page(limit)


@app.command("show")
@with_settings(Section.TASK_QUEUE)
def show(
    settings: Settings,
    letter_id: Annotated[str, typer.Argument(help="Its id, as list prints it.")],
    as_json: Json = False,
) -> None:
    """Print one dead letter with its message, as JSON with or without --json."""
    from crucible.broker.claiming.deadletters import shown

    print_json(shown(asyncio.run(_get(settings, letter_id))))


async def _get(settings: Settings, letter_id: str) -> DeadLetter:
    async with connected(settings) as admin:
        letter = await admin.dead_letters.get(letter_id)
    if letter is None:
        raise NotFound(f"no dead letter has the id {letter_id!r}")
    return letter


@app.command("replay")
@with_settings(Section.TASK_QUEUE)
def replay(
    settings: Settings,
    letter_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids, as list prints them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: Json = False,
) -> None:
    """Put dead letters back into their queues."""
    if bool(letter_ids) == every:
        raise typer.BadParameter("give ids, or --all")
    done, refused = asyncio.run(_replay(settings, letter_ids or []))
    if as_json:
        print_json({"replayed": done, "refused": refused})
    else:
        typer.echo(f"{len(done)} put back")
        _print_refused(refused)
    if refused:
        raise typer.Exit(1)


def _print_refused(refused: dict[str, str]) -> None:
    for letter_id, reason in refused.items():
        typer.echo(f"{letter_id}: {reason}", err=True)


async def _replay(settings: Settings, letter_ids: list[str]) -> tuple[list[str], dict[str, str]]:
    done: list[str] = []
    refused: dict[str, str] = {}
    async with connected(settings) as admin:
        letters = admin.dead_letters
        if not letter_ids:
            # The ids at the start only: a message that fails again gets a new one, and replaying
            # those too might never finish.
            page = await letters.page(_PAGE)
            while page:
                letter_ids += [letter.letter_id for letter in page]
                page = await letters.page(_PAGE, before=page[-1].letter_id)
            letter_ids.reverse()
        for letter_id in letter_ids:
            letter = await letters.get(letter_id)
            if letter is None:
                refused[letter_id] = _UNKNOWN
                continue
            try:
                await letters.replay(letter, count_attempt=bool(scoped_of(letter.task_id)))
            except CrucibleError as error:
                refused[letter_id] = str(error)
            else:
                done.append(letter_id)
    return done, refused


@app.command("purge")
@with_settings(Section.TASK_QUEUE)
def purge(
    settings: Settings,
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Ids; all when none.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete dead letters for good."""
    if not yes:
        typer.confirm("Delete these dead letters for good?", abort=True)
    deleted, refused = asyncio.run(_purge(settings, letter_ids or []))
    if as_json:
        print_json({"deleted": deleted, "refused": refused})
    else:
        typer.echo(f"{deleted} deleted")
        _print_refused(refused)
    if refused:
        raise typer.Exit(1)


async def _purge(settings: Settings, letter_ids: list[str]) -> tuple[int, dict[str, str]]:
    async with connected(settings) as admin:
        letters = admin.dead_letters
        if not letter_ids:
            return await letters.purge(), {}
        there = [letter_id for letter_id in letter_ids if await letters.get(letter_id)]
        deleted = await letters.purge(there) if there else 0
    return deleted, {letter_id: _UNKNOWN for letter_id in letter_ids if letter_id not in there}


def _time(letter: DeadLetter) -> str:
    moment = datetime.fromtimestamp(int(letter.letter_id.partition("-")[0]) / 1000, UTC)
    return moment.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")

"""``crucible compare``: run the same programs on both queue systems."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.cli.sides import SECTIONS
from crucible.errors import CrucibleError
from crucible.settings import Settings

if TYPE_CHECKING:
    from crucible.migration.comparison import Comparison
    from crucible.migration.operations.compare import Report
    from crucible.migration.operations.programs import Named
    from crucible.migration.operations.sides import Sides


@with_settings(*SECTIONS)
def command(
    settings: Settings,
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="A folder of programs, each NAME.py|.js|.sh|.c with an optional NAME.toml.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="A program, or requests as JSON, one object or one a line.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    live: Annotated[
        int | None, typer.Option(help="The last N submissions of clients.", min=1, max=500)
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write an HTML report to FILE.")] = None,
    as_json: Json = False,
) -> None:
    """Run programs on both sides and compare output, error, exit code and verdict.

    Exit code 1 when a program differed or was not run. Nondeterministic programs are recognized
    by running them again.
    """
    if sum(given is not None for given in (corpus, file, live)) != 1:
        raise typer.BadParameter("give one of --corpus, --file and --live")
    report = asyncio.run(_compare(settings, corpus, file, live or 0, as_json))
    if html is not None:
        from crucible.migration.operations.report import html as page

        html.write_text(page(report), encoding="utf-8")
    if as_json:
        print_json(report)
    else:
        _show(report)
    if not report.agreed:
        raise typer.Exit(1)


async def _compare(
    settings: Settings, corpus: Path | None, file: Path | None, live: int, quiet: bool
) -> Report:
    from crucible.broker import Publisher
    from crucible.migration.operations.compare import ProgramComparer
    from crucible.migration.operations.sides import Sides

    def show(found: Comparison) -> None:
        if not quiet:
            typer.echo(f"{found.kind:<17} {found.name}", err=True)

    async with (
        Sides.connect(settings) as sides,
        Publisher.connect(
            settings.celery_broker_url,
            result_url=settings.result_url,
            global_keyprefix=settings.global_keyprefix,
            result_keyprefix=settings.result_prefix,
            scripting=settings.claim == "atomic",
        ) as publisher,
    ):
        programs = await _programs(sides, corpus, file, live)
        return await ProgramComparer(sides, publisher).compare(programs, show)


async def _programs(sides: Sides, corpus: Path | None, file: Path | None, live: int) -> list[Named]:
    from crucible.migration.live.sample import latest_sample
    from crucible.migration.operations.programs import from_corpus, from_file

    if corpus is not None:
        return from_corpus(corpus)
    if file is not None:
        return from_file(file)
    found = await latest_sample(sides.client, sides.keys, live)
    if not found:
        raise CrucibleError("no submission has been sampled yet")
    return found


def _show(report: Report) -> None:
    table = Table("program", "outcome", "field", "legacy", "celery", box=None, header_style="bold")
    for one in report.programs:
        if one.detail:
            table.add_row(one.name, one.kind, "", one.detail, "")
        for found in one.differences:
            table.add_row(one.name, one.kind, found.field, found.legacy, found.celery)
    if table.row_count:
        Console().print(table)
    for side in ("legacy", "celery"):
        used = [getattr(one, side) for one in report.programs]
        typer.echo(
            f"{side}: {sum(u.wall_time_ms for u in used) / 1000:.1f} s total run time, "
            f"peak memory {max((u.memory_peak_kb for u in used), default=0) / 1024:.0f} MiB"
        )
    typer.echo(", ".join(f"{number} {name}" for name, number in report.counts.items()))

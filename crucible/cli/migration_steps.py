"""The migration steps that move or check evaluations: ``drain``, ``recover``, ``verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.cli.sides import SECTIONS, Reason, who, with_sides
from crucible.errors import CrucibleError
from crucible.settings import Settings

if TYPE_CHECKING:
    from crucible.legacy import QueueStats
    from crucible.migration.operations.recover import Moved
    from crucible.migration.operations.repair import Repaired
    from crucible.migration.operations.sides import Sides
    from crucible.migration.operations.verify import Verification


@with_settings(*SECTIONS)
def drain(
    settings: Settings,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until it is empty.")] = 300.0,
    reason: Reason = "drain",
) -> None:
    """Send everything to Celery, close the legacy queue, and wait until it is empty."""
    from crucible.migration.operations.drain import drain as drain_legacy

    def report(stats: QueueStats) -> None:
        typer.echo(f"{stats.queued} queued, {stats.running} running")

    async def do(sides: Sides) -> bool:
        return await drain_legacy(sides, timeout, by=who(), reason=reason, report=report)

    if not with_sides(settings, do):
        raise CrucibleError("the legacy queue is not empty yet; drain again, or recover")
    typer.echo("the legacy queue is empty")


@with_settings(*SECTIONS)
def recover(
    settings: Settings,
    to: Annotated[
        Literal["legacy", "celery"], typer.Option(help="The side to move evaluations to.")
    ],
    active: Annotated[
        bool,
        typer.Option("--active", help="Include claimed evaluations, which may then run twice."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Move unfinished evaluations to the other side."""

    async def do(sides: Sides) -> Moved:
        from crucible.migration.operations.recover import to_celery, to_legacy

        return await (to_legacy if to == "legacy" else to_celery)(sides, active=active)

    moved = with_sides(settings, do)
    if as_json:
        print_json(msgspec.to_builtins(moved))
        return
    typer.echo(f"{len(moved.moved)} moved to {to}")
    for eval_id, why in moved.left.items():
        typer.echo(f"left  {eval_id}  {why}")


@with_settings(*SECTIONS)
def verify(
    settings: Settings,
    repair: Annotated[
        bool, typer.Option("--repair", help="Resubmit what is lost, then verify again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check that every accepted evaluation is finished or queued; exit code 1 if not."""

    async def do(sides: Sides) -> tuple[Verification, Repaired | None]:
        from crucible.migration.operations.repair import repair as repair_missing
        from crucible.migration.operations.verify import verify as verify_all

        found, missing = await verify_all(sides)
        if not missing or not repair:
            return found, None
        repaired = await repair_missing(sides, missing)
        return (await verify_all(sides))[0], repaired

    found, repaired = with_sides(settings, do)
    if as_json:
        print_json({
            **msgspec.to_builtins(found),
            "proved": found.proved,
            "repaired": msgspec.to_builtins(repaired),
        })  # fmt: skip
    else:
        _show(found, repaired)
    if not found.proved:
        raise typer.Exit(1)


def _show(found: Verification, repaired: Repaired | None) -> None:
    if repaired is not None:
        typer.echo(
            f"resubmitted: {len(repaired.to_legacy)} to legacy, {len(repaired.to_celery)} "
            f"to celery; {len(repaired.failed)} failed"
        )
        for eval_id, why in repaired.failed.items():
            typer.echo(f"failed  {eval_id}  {why}")
    table = Table("side", "place", "evaluations", box=None, header_style="bold")
    for side, places in found.places.items():
        for place, number in sorted(places.items()):
            table.add_row(side, place, str(number))
    Console().print(table)
    typer.echo(f"{found.accepted} accepted, {found.unrecorded} on the legacy side unrecorded")
    for missing in found.missing:
        typer.echo(f"{missing.place}  {missing.eval_id}  {missing.queue_system}  "
                   f"{missing.created_at}")  # fmt: skip
    typer.echo(
        "every accepted evaluation is finished or queued"
        if found.proved
        else f"{len(found.missing)} evaluations will never finish without intervention"
    )

"""``crucible doctor``: what this machine lacks, and what to do about it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.settings import Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from crucible.doctor.check import Check

_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@with_settings(
    Section.LISTENING,
    Section.TASK_QUEUE,
    Section.EVENT_BUS,
    Section.SANDBOXES,
    Section.IMAGE,
    "data_dir",
)
def command(
    settings: Settings,
    as_json: Json = False,
    live: Annotated[
        str | None,
        typer.Option(
            help="Only whether a process of this machine serves: api, worker, executor or "
            "historian; for health checks.",
            metavar="PROCESS",
            show_default=False,
        ),
    ] = None,
    apparmor_profile: Annotated[
        bool,
        typer.Option("--apparmor-profile", help="Print the AppArmor profile of lanes instead."),
    ] = False,
) -> None:
    """Check everything Crucible needs; exit code 1 when something is missing."""
    if apparmor_profile:
        from crucible.executor.nested import probe

        typer.echo(probe.apparmor_profile(), nl=False)
        return
    checks = asyncio.run(_all(settings) if live is None else _live(settings, live))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(checks)).decode())
    else:
        for check in checks:
            word, colour = _MARKS[check.severity]
            typer.echo(f"{typer.style(word, fg=colour)} {check.name}: {check.detail}")
            if check.remedy:
                typer.echo(f"     → {check.remedy}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


async def _all(settings: Settings) -> list[Check]:
    # Imported here so that other commands do not load the engine's client.
    from crucible.doctor.examination import run_checks

    return await run_checks(settings)


async def _live(settings: Settings, name: str) -> list[Check]:
    from crucible.doctor.live import Process, check_live

    if name not in list(Process):
        raise typer.BadParameter(
            f"{name!r}: must be one of {', '.join(Process)}", param_hint="--live"
        )
    return [await check_live(settings, Process(name))]

"""``crucible doctor``: what this machine lacks, and what to do about it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.settings import Settings
from crucible.settings.sections import Section

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
    # Imported here so that other commands do not load the engine's client.
    from crucible.doctor import run_checks

    checks = asyncio.run(run_checks(settings))
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

"""``crucible api``: the HTTP service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crucible.cli.flags import with_settings
from crucible.cli.running import StopSignals, run
from crucible.settings import Settings
from crucible.settings.sections import Section

#: Settings of the api; ``crucible up`` starts one and has these flags too.
SECTIONS = (
    Section.LISTENING,
    Section.CONNECTIONS,
    Section.TASK_QUEUE,
    Section.EVENT_BUS,
    Section.HISTORY,
    Section.SUBMISSIONS,
    Section.MIGRATION,
    Section.LEGACY_QUEUE,
    Section.BREAKERS,
    Section.CEILINGS,
    Section.AUTOSCALING,
    Section.TRACING,
    "environments",
)


@with_settings(*SECTIONS, "log_level", "log_format")
def command(
    settings: Settings,
    shared: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve the HTTP API; with --processes by several processes on one port."""
    run(_serve(settings, shared), settings)


async def _serve(settings: Settings, shared: Path | None) -> None:
    # Imported here so that other commands do not load the HTTP server.
    stop = StopSignals().stop
    if settings.processes > 1:
        from crucible.up.processes import run_processes

        await run_processes(settings, stop, _write)
        return
    from crucible.api.server import serve

    await serve(settings, stop, shared=shared)


def _write(name: str, line: str) -> None:
    """One log for all of them, where that of one would be."""
    typer.echo(f"{name:<7}| {line}", err=True)

"""What ``crucible api`` runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crucible.cli.running import StopSignals, keep_from_collector, run
from crucible.cli.services.service import Service
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from crucible.settings import Settings

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


def run_api(settings: Settings, shared: Path | None = None) -> None:
    """Serve the HTTP API until it is asked to stop.

    Args:
        settings: of it.
        shared: directory of the processes that listen on one port together.
    """
    run(_serve(settings, shared), settings)


async def _serve(settings: Settings, shared: Path | None) -> None:
    stop = StopSignals().stop
    if settings.processes > 1:
        from crucible.up.processes import run_processes

        await run_processes(settings, stop, _write)
        return
    from crucible.api.server import serve

    await serve(settings, stop, shared=shared, started=lambda _: keep_from_collector())


def _write(name: str, line: str) -> None:
    """One log for all of them, where that of one would be."""
    print(f"{name:<7}| {line}", file=sys.stderr, flush=True)


SERVICE = Service((*SECTIONS, "log_level", "log_format"), run_api, {"shared": Path})

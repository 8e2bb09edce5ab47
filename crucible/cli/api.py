"""``crucible api``: the HTTP service."""

from __future__ import annotations

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
    "environments",
)


@with_settings(*SECTIONS, "log_level")
def command(settings: Settings) -> None:
    """Serve the HTTP API."""
    run(_serve(settings), settings.log_level)


async def _serve(settings: Settings) -> None:
    # Imported here so that other commands do not load the HTTP server.
    from crucible.api.server import serve

    await serve(settings, StopSignals().stop)

"""``crucible executor``: runs programs for workers of other processes and machines."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from crucible.cli.flags import with_settings
from crucible.cli.running import StopSignals, run
from crucible.settings import Settings
from crucible.settings.sections import Section

log = logging.getLogger(__name__)

#: The default port.
PORT = 8003


@with_settings(
    "host",
    "allowed_hosts",
    "concurrency",
    Section.SANDBOXES,
    Section.CEILINGS,
    "environments",
    Section.TRACING,
    "log_level",
    "log_format",
)
def command(
    settings: Settings,
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any.", min=0, max=65535)] = PORT,
    socket: Annotated[
        Path | None,
        typer.Option(help="Listen on this Unix socket instead.", show_default=False),
    ] = None,
) -> None:
    """Serve an executor over HTTP; CRUCIBLE_EXECUTOR_URLS names it to workers."""
    run(_serve(settings, port, socket), settings)


async def _serve(settings: Settings, port: int, socket: Path | None) -> None:
    import msgspec

    from crucible.evaluation.executor_settings import executor_config
    from crucible.executor.service import serve
    from crucible.telemetry.traces import open_tracing

    # The programs run here, whatever the environment says about where others run theirs.
    config = msgspec.structs.replace(executor_config(settings), urls=())
    # Which programs are traced is decided where they are submitted.
    traced = msgspec.structs.replace(settings, trace_sample_rate=0.0)
    async with open_tracing(traced, "crucible-executor") as tracing:
        await serve(
            config,
            settings.host,
            port,
            str(socket) if socket else None,
            settings.executor_token or None,
            StopSignals().stop,
            allowed_hosts=settings.allowed_hosts,
            listening=lambda url: log.info("executor listening on %s", url),
            hooks=None if tracing is None else tracing.sandboxes,
            tracing=None if tracing is None else tracing.requests,
        )

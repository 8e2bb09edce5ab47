"""``crucible api``: the HTTP service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crucible.cli.flags import with_settings
from crucible.cli.services.api import SERVICE, run_api
from crucible.settings import Settings


@with_settings(*SERVICE.settings)
def command(
    settings: Settings,
    shared: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve the HTTP API; with --processes by several processes on one port."""
    run_api(settings, shared)

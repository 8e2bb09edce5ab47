"""Serving the application until it is asked to stop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crucible.api.app import build_app
from crucible.api.fast_path.server import FastPathRunner
from crucible.http.listening import allow_files, listen
from crucible.settings import http_url

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from crucible.settings import Settings

log = logging.getLogger(__name__)

#: Seconds that requests in flight may take once the server is asked to stop.
SHUTDOWN_S = 5.0
#: Connections that wait to be accepted; load tests open hundreds at once.
BACKLOG = 1024
#: Open files besides the connections of clients: logs, connections to other servers.
OTHER_FILES = 256


async def serve(
    settings: Settings, stop: asyncio.Event, *, started: Callable[[int], None] | None = None
) -> None:
    """Serve the HTTP API.

    Args:
        settings: where to listen and what to connect to.
        stop: ends it; requests in flight are answered first.
        started: called with the port once it listens (port 0 asks for any free one).

    Raises:
        SettingsError: the address may not be served.
        RequirementError: the address cannot be bound.
    """
    allow_files(settings.max_connections + OTHER_FILES)
    runner = FastPathRunner(build_app(settings), access_log=None, shutdown_timeout=SHUTDOWN_S)
    try:
        await runner.setup()
        port = await listen(runner, settings.host, settings.port, backlog=BACKLOG)
        log.info("api listening on %s", http_url(settings.host, port))
        if started is not None:
            started(port)
        await stop.wait()
    finally:
        await runner.cleanup()

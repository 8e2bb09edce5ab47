"""Serving the application until it is told to stop."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from aiohttp import web

from crucible.api.app import build_app
from crucible.api.fast_path.server import DirectRunner
from crucible.errors import RequirementError
from crucible.settings import check_exposure, http_url

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from crucible.settings import Settings

log = logging.getLogger(__name__)

#: Seconds requests in flight may take once the server is told to stop.
SHUTDOWN_S = 5.0


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
    check_exposure(settings.host)
    runner = DirectRunner(build_app(settings), access_log=None, shutdown_timeout=SHUTDOWN_S)
    try:
        await runner.setup()
        port = await _listen(runner, settings)
        log.info("api listening on %s", http_url(settings.host, port))
        if started is not None:
            started(port)
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, settings: Settings) -> int:
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RequirementError(
                f"port {settings.port} on {settings.host} is taken", "choose another with --port"
            ) from None
        raise RequirementError(f"cannot listen on {settings.host}: {error}") from None
    return int(runner.addresses[0][1])

"""Serving the application until it is asked to stop."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from crucible.api import metrics
from crucible.api.app import build_app
from crucible.api.app_keys import SHARED_METRICS
from crucible.api.fast_path.server import FastPathRunner
from crucible.compat.facades import served_facades
from crucible.http.listening import allow_files, listen
from crucible.settings import http_url
from crucible.telemetry.shared import SharedMetrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from aiohttp import web

    from crucible.settings import Settings

log = logging.getLogger(__name__)

#: Seconds that requests in flight may take once the server is asked to stop.
SHUTDOWN_S = 5.0
#: Connections that wait to be accepted; load tests open hundreds at once.
BACKLOG = 1024
#: Open files besides the connections of clients: logs, connections to other servers.
OTHER_FILES = 256


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    started: Callable[[int], None] | None = None,
    shared: Path | None = None,
) -> None:
    """Serve the HTTP API.

    Args:
        settings: where to listen and what to connect to.
        stop: ends it; requests in flight are answered first.
        started: called with the port once it listens (port 0 asks for any free one).
        shared: directory of the processes that listen on the port together; None for one alone.

    Raises:
        SettingsError: the address may not be served.
        RequirementError: the address cannot be bound.
    """
    facades = served_facades(settings.compat)
    allow_files(settings.max_connections + OTHER_FILES)
    app = build_app(settings)
    if shared is not None:
        app.cleanup_ctx.append(partial(_shared_metrics, shared))
    runner = FastPathRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    try:
        await runner.setup()
        port = await listen(
            runner,
            settings.host,
            settings.port,
            backlog=BACKLOG,
            reuse_port=shared is not None,
        )
        for name, facade_port in facades.items():
            if facade_port is not None:
                await listen(
                    runner,
                    settings.host,
                    facade_port,
                    backlog=BACKLOG,
                    reuse_port=shared is not None,
                )
                log.info("facade %s listening on port %d as well", name, facade_port)
        log.info("api listening on %s", http_url(settings.host, port))
        if started is not None:
            started(port)
        await stop.wait()
    finally:
        await runner.cleanup()


async def _shared_metrics(directory: Path, app: web.Application) -> AsyncIterator[None]:
    with SharedMetrics.opened(directory) as shared:
        app[SHARED_METRICS] = shared
        sharing = asyncio.create_task(metrics.share(app), name="crucible-shared-metrics")
        try:
            yield
        finally:
            sharing.cancel()
            await asyncio.gather(sharing, return_exceptions=True)

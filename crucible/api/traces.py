"""Tracing of this api, where the settings name a receiver of traces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from crucible.http.traced import traced
from crucible.telemetry.traces import start_tracing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.settings import Settings
    from crucible.tracing import Tracing

TRACING: web.AppKey[Tracing] = web.AppKey("tracing")


def add_tracing(app: web.Application, settings: Settings) -> None:
    """Trace requests of an application that was just made; nothing where tracing is off.

    Raises:
        RequirementError: the libraries are missing.
    """
    tracing = start_tracing(settings, "crucible-api")
    if tracing is None:
        return
    app[TRACING] = tracing.requests
    app.middlewares.insert(0, traced(tracing.requests))

    async def closed(app: web.Application) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(tracing.close)

    app.cleanup_ctx.insert(0, closed)

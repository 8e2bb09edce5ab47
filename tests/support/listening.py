"""Applications that listen on loopback while a context is open, an executor service among them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from crucible.settings import http_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

#: Seconds that requests under way have when it stops.
_STOP_S = 0.1


@asynccontextmanager
async def listening(app: web.Application, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve an application at a free port; yields its base URL.

    Not aiohttp's test server: that cancels the handlers of clients that have hung up.
    """
    runner = web.AppRunner(app, shutdown_timeout=_STOP_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0).start()
        yield http_url(host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def executor_service(
    run: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """An executor service that is ready, and runs programs this way; yields its URL."""

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application()
    app.add_routes([web.post("/run", run), web.get("/ready", ready)])
    async with listening(app) as url:
        yield url

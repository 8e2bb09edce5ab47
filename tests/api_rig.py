"""The HTTP API on a free port, for tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from crucible.api.server import serve
from crucible.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START_S = 20.0


@asynccontextmanager
async def running_api(queue_url: str, **flags: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """The API in this process; yields a client whose paths are relative to it."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = load_settings(
        {}, flags={"port": 0, "celery_broker_url": queue_url, "event_bus_url": queue_url, **flags}
    )
    serving = asyncio.create_task(serve(settings, stop, started=port.set_result))
    await asyncio.wait({serving, port}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    try:
        base = f"http://127.0.0.1:{port.result()}"
        async with aiohttp.ClientSession(base, timeout=aiohttp.ClientTimeout(total=30)) as client:
            yield client
    finally:
        stop.set()
        await serving

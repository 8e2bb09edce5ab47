"""Server-sent events by a bare aiohttp handler: one frame of an event's size, written to each."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from aiohttp import web

#: As long as the data of an event of ``/api/events``.
_DATA = json.dumps({"eval_id": "00000000-0000-4000-8000-000000000000", "more": "x" * 180})
_BACKLOG = 4096
_runner: web.AppRunner | None = None
_streams: set[asyncio.Queue[bytes]] = set()


async def follow(request: web.Request) -> web.StreamResponse:
    """A stream of all events; ends with its client."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    events: asyncio.Queue[bytes] = asyncio.Queue()
    _streams.add(events)
    try:
        await response.write(b"retry: 1000\n\n")
        while True:
            await response.write(await events.get())
    except ConnectionResetError:
        return response
    finally:
        _streams.discard(events)


async def submit(request: web.Request) -> web.Response:
    """One event for each item."""
    items = await request.json()
    for number, _ in enumerate(items):
        frame = f"id: {number}\nevent: evaluation\ndata: {_DATA}\n\n".encode()
        for events in _streams:
            events.put_nowait(frame)
    return web.json_response({"accepted": len(items)}, status=202)


async def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start the server, without an access log like ``crucible api``."""
    global _runner
    app = web.Application()
    app.router.add_get("/api/events", follow)
    app.router.add_post("/api/eval/batch", submit)
    _runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await _runner.setup()
    await web.TCPSite(_runner, "127.0.0.1", 0, backlog=_BACKLOG).start()
    return {"port": _runner.addresses[0][1], "pid": os.getpid()}


def run(job: dict[str, Any]) -> None:
    """Nothing to do: clients follow the streams."""


async def teardown(job: dict[str, Any]) -> None:
    """Stop listening."""
    if _runner is not None:
        await _runner.cleanup()

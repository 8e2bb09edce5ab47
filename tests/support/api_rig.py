"""The HTTP API on a free port, for tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import aiohttp
import msgspec

from crucible.api.fast_path.server import FastPathRunner
from crucible.api.server import serve
from crucible.http.protocol import GuardedRunner
from crucible.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

START_S = 60.0
#: Seconds for the queue server's answer to a submission, and for the api's to a client: more than
#: settings allow, so that a busy machine meets them. Tests of the deadline name their own.
PATIENT_S, ANSWER_S = 60.0, 120.0


@asynccontextmanager
async def running_api(
    queue_url: str, *, direct: bool = True, **flags: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """The API in this process; yields a client whose paths are relative to it.

    With ``direct=False`` there is no fast path, as behind a legacy queue. Without a
    ``publish_deadline_s`` submissions are patient with the queue server.
    """
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = load_settings(
        {}, flags={"port": 0, "celery_broker_url": queue_url, "event_bus_url": queue_url, **flags}
    )
    if "publish_deadline_s" not in flags:
        settings = msgspec.structs.replace(settings, publish_deadline_s=PATIENT_S)
    runner = FastPathRunner if direct else GuardedRunner
    with mock.patch("crucible.api.server.FastPathRunner", runner):
        serving = asyncio.create_task(serve(settings, stop, started=port.set_result))
        await asyncio.wait({serving, port}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    try:
        base = f"http://127.0.0.1:{port.result()}"
        patience = aiohttp.ClientTimeout(total=ANSWER_S)
        async with aiohttp.ClientSession(base, timeout=patience) as client:
            yield client
    finally:
        stop.set()
        await serving


async def ended(client: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    """Submit and wait, as a client does."""
    async with client.post("/api/eval", json=body) as response:
        assert response.status == 202, await response.text()
        href = (await response.json())["href"]
    while True:
        async with client.get(href, params={"wait": "20"}) as response:
            view: dict[str, Any] = await response.json()
        if view["status"] in ("completed", "failed", "cancelled"):
            return view


def port_of(client: aiohttp.ClientSession) -> int:
    """The port of a client's API."""
    port = client._base_url.port if client._base_url else None
    assert port is not None
    return port


async def queued(redis: Redis) -> list[Any]:
    """Every message in any list of any queue."""
    keys: list[Any] = await redis.keys("*")
    lists = [key for key in keys if await redis.type(key) == b"list"]
    return [message for key in lists for message in await redis.lrange(key, 0, -1)]

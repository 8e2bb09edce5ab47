"""Debian's Prometheus as a child process, for tests."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from stock_rig.child import Child

from crucible.embedded.server import free_port
from support.worker_rig import plain_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

START_S = 60.0


class Prometheus:
    """Asks a server.

    Args:
        client: with the server's base URL.
    """

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now; empty while it has none."""
        parameters = {"query": expression}
        async with self._client.get("/api/v1/query", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        found = answer["data"]["result"]
        assert isinstance(found, list)
        return found


@asynccontextmanager
async def scraping(directory: Path, port: int) -> AsyncIterator[Prometheus]:
    """A server that scrapes one api every second while the context is open.

    Args:
        directory: for its data.
        port: of the api.
    """
    config = directory / "prometheus.json"  # which is YAML as well
    jobs = [{"job_name": "crucible", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    own = free_port()
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    async with (
        Child(command, plain_environment()) as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{own}") as client,
    ):
        await server.wait_for_log("Server is ready to receive web requests", START_S)
        yield Prometheus(client)


async def series_of(
    prometheus: Prometheus, expressions: list[str], timeout_s: float = 60.0
) -> dict[str, int]:
    """The number of series of each expression, once all have some or the time is over."""
    found = dict.fromkeys(expressions, 0)
    try:
        async with asyncio.timeout(timeout_s):
            while missing := [one for one, number in found.items() if not number]:
                for one in missing:
                    found[one] = len(await prometheus.query(one))
                await asyncio.sleep(0.2)
    except TimeoutError:
        pass
    return found

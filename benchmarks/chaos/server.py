"""The queue server under fire: killed, and started again on its append-only file."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from redis.asyncio import Redis

from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path


class QueueServer:
    """A durable server that survives ``crash`` with everything it confirmed.

    Attributes:
        port: where it listens, the same after each crash.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = EmbeddedServer(directory)
        self._stack = AsyncExitStack()
        self.port = 0

    @property
    def url(self) -> str:
        """Without any proxy in between."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self._server = EmbeddedServer(self._directory, self.port)
        await self._stack.enter_async_context(self._server)
        self.port = self._server.port
        async with Redis.from_url(self.url) as client:
            # What is confirmed is in the file: a kill may lose nothing that anybody was told.
            await client.config_set("appendfsync", "always")

    async def crash(self) -> None:
        """SIGKILL, then start again; returns once it answers."""
        os.kill(self._server.pid, signal.SIGKILL)
        await self._stack.aclose()
        await self._start()

"""The queue server of a run: can be killed and restarted on its append-only file."""

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
    """A server that keeps everything it confirmed through ``crash`` (``appendfsync always``).

    Attributes:
        directory: its data.
        port: where it listens, the same after each crash.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._server = EmbeddedServer(directory)
        self._stack = AsyncExitStack()
        self.port = 0

    @property
    def url(self) -> str:
        """The URL without a proxy in between."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self._server = EmbeddedServer(self.directory, self.port)
        await self._stack.enter_async_context(self._server)
        self.port = self._server.port
        async with Redis.from_url(self.url) as client:
            # A confirmed write is in the file, so a kill may lose nothing that was confirmed.
            await client.config_set("appendfsync", "always")

    async def crash(self) -> None:
        """SIGKILL and restart; returns once it answers."""
        os.kill(self._server.pid, signal.SIGKILL)
        await self._stack.aclose()
        await self._start()

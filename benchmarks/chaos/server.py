"""The queue server of a run: can be killed and restarted on its append-only file."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from redis.asyncio import Redis

from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path

ALWAYS, EVERY_SECOND = "always", "everysec"
#: Seconds until a server under load has written its file, and between looks.
_WRITE_S, _LOOK_S = 60.0, 0.05


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
            await client.config_set("appendfsync", ALWAYS)

    @property
    def pid(self) -> int:
        """Process id while it runs."""
        return self._server.pid

    async def sync(self, policy: str) -> None:
        """Set ``appendfsync``: with ``always`` it exits where it cannot write its file."""
        async with Redis.from_url(self.url) as client:
            await client.config_set("appendfsync", policy)

    async def until_writable(self, *, writable: bool) -> None:
        """Wait until its file could be written at its last attempt, or could not."""
        wanted = "ok" if writable else "err"
        async with asyncio.timeout(_WRITE_S), Redis.from_url(self.url) as client:
            while (await client.info("persistence"))["aof_last_write_status"] != wanted:
                await asyncio.sleep(_LOOK_S)

    async def crash(self) -> None:
        """SIGKILL and restart; returns once it answers."""
        os.kill(self._server.pid, signal.SIGKILL)
        await self._stack.aclose()
        await self._start()

"""The queue server of a cell: durable, with a user for each side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from redis.asyncio import Redis

from benchmarks.chaos.outages.cells import Side
from crucible.embedded.server import EmbeddedServer, free_port

if TYPE_CHECKING:
    from pathlib import Path

_PASSWORD = "right"
#: Between looks whether a full server is still full: what is used may shrink.
_FILL_S = 0.5


#: A user for each side, who is there after a restart as well.
_USERS = [
    argument
    for side in (Side.API, Side.WORKER)
    for argument in ("--user", side.value, "on", f">{_PASSWORD}", "~*", "&*", "+@all")
]


class _Server(EmbeddedServer):
    """With all that is confirmed on disk."""

    def _arguments(self) -> list[str]:
        return [*super()._arguments(), "--appendfsync", "always", *_USERS]


class OutageServer:
    """A server that goes away and comes back.

    Attributes:
        port: where it listens, always the same.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = _Server(directory)
        self._stack = AsyncExitStack()
        self._filling: asyncio.Task[None] | None = None
        self._filled = asyncio.Event()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._filling is not None:
            self._filling.cancel()
        await self._stack.aclose()

    def client(self) -> Any:
        """A client of the default user, who is never affected."""
        return Redis.from_url(f"redis://127.0.0.1:{self.port}/0")

    def url(self, side: Side, port: int) -> str:
        """For the processes of one side, who come through ``port``."""
        return f"redis://{side.value}:{_PASSWORD}@127.0.0.1:{port}/0"

    async def start(self) -> None:
        """Start it on its file; returns once it answers."""
        self._server = _Server(self._directory, self.port)
        await self._stack.enter_async_context(self._server)
        self.port = self._server.port

    async def stop(self) -> None:
        """SIGTERM."""
        await self._stack.aclose()

    async def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        await self._stack.aclose()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self._server.pid, number)

    async def demote(self) -> None:
        """Make it the replica of a master that nobody reaches: it keeps its data."""
        async with self.client() as client:
            await client.replicaof("127.0.0.1", free_port())

    async def promote(self) -> None:
        """Make it a master again."""
        async with self.client() as client:
            await client.replicaof("NO", "ONE")

    def fill(self) -> None:
        """Keep the limit of its memory just below what is used."""
        self._filled.clear()
        self._filling = asyncio.create_task(self._keep_full())

    async def _keep_full(self) -> None:
        async with self.client() as client:
            while not self._filled.is_set():
                used = (await client.info("memory"))["used_memory"]
                await client.config_set("maxmemory", used - 1)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_FILL_S):
                        await self._filled.wait()

    async def make_room(self) -> None:
        """Undo ``fill``."""
        # Not cancelled: redis-py may swallow it in the middle of a command.
        self._filled.set()
        filling, self._filling = self._filling, None
        if filling is not None:
            await filling
        async with self.client() as client:
            await client.config_set("maxmemory", 0)

    async def rotate(self, sides: list[Side], password: str) -> None:
        """Give users another password and close their connections."""
        async with self.client() as client:
            for side in sides:
                await client.execute_command(
                    "ACL", "SETUSER", side.value, "resetpass", f">{password}"
                )
                await client.execute_command("CLIENT", "KILL", "USER", side.value)

    async def rotate_back(self, sides: list[Side]) -> None:
        """Undo ``rotate``."""
        await self.rotate(sides, _PASSWORD)


class Replica(EmbeddedServer):
    """Follows a server, and has its users."""

    def __init__(self, directory: Path, master_port: int) -> None:
        super().__init__(directory, durable=False)
        self._master_port = master_port

    def _arguments(self) -> list[str]:
        return [*super()._arguments(), *_USERS, "--replicaof", "127.0.0.1", str(self._master_port)]

    async def followed(self) -> None:
        """Return once it has what its master has."""
        async with Redis.from_url(self.url) as client:
            while (await client.info("replication"))["master_link_status"] != "up":
                await asyncio.sleep(0.05)

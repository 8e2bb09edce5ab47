"""A master, its replicas and their sentinels, on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from crucible.embedded.server import EmbeddedServer, free_port

if TYPE_CHECKING:
    from pathlib import Path

MASTER_NAME = "crucible"
#: Milliseconds of silence after which a sentinel takes a server for dead.
DOWN_AFTER_MS = 2000
#: Seconds between looks at servers that have no way to tell.
_LOOK_S = 0.02
_REPLICAS, _SENTINELS, _QUORUM = 2, 3, 2


class DataServer(EmbeddedServer):
    """A durable server that may follow another.

    Attributes:
        master_port: whom it follows when it starts; 0 is nobody.
    """

    def __init__(self, directory: Path, master_port: int = 0) -> None:
        super().__init__(directory, free_port())
        self.master_port = master_port

    def _arguments(self) -> list[str]:
        # Replicas get the whole data at once and not after the default wait of five seconds.
        arguments = [*super()._arguments(), "--repl-diskless-sync-delay", "0"]
        if self.master_port:
            arguments += ["--replicaof", "127.0.0.1", str(self.master_port)]
        return arguments

    async def kill(self) -> None:
        """SIGKILL; returns when it is dead."""
        os.kill(self.pid, signal.SIGKILL)
        await self.exited()


class SentinelServer(EmbeddedServer):
    """One sentinel; it rewrites its file with what it learns."""

    def __init__(self, directory: Path, master_port: int) -> None:
        super().__init__(directory, free_port())
        directory.mkdir()
        self._file = directory / "sentinel.conf"
        monitored = f"{MASTER_NAME} 127.0.0.1 {master_port} {_QUORUM}"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"logfile {directory / 'server.log'}\n"
            f"sentinel monitor {monitored}\n"
            f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {MASTER_NAME} 3000\n"
            f"sentinel parallel-syncs {MASTER_NAME} {_REPLICAS}\n"
        )

    def _arguments(self) -> list[str]:
        return [str(self._file), "--sentinel"]

    async def _ask(self, commands: bytes) -> bytes:
        """A sentinel knows no QUIT: the end of what is sent does the same."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(commands.replace(b"QUIT\r\n", b""))
            writer.write_eof()
            return await reader.read()
        finally:
            writer.close()


class SentinelCluster:
    """Three servers and three sentinels, ready once entered.

    Attributes:
        url: for clients, of database 0.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._servers: dict[int, DataServer] = {}
        self._sentinels: list[SentinelServer] = []
        self._stack = AsyncExitStack()
        self.url = ""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            master = await self._add_server(stack, 0)
            for _ in range(_REPLICAS):
                await self._add_server(stack, master.port)
            for number in range(_SENTINELS):
                sentinel = SentinelServer(self._directory / f"sentinel{number}", master.port)
                self._sentinels.append(await stack.enter_async_context(sentinel))
            self.url = self.url_of(self._sentinels)
            await self.whole()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _add_server(self, stack: AsyncExitStack, master_port: int) -> DataServer:
        server = DataServer(self._directory / f"server{len(self._servers)}", master_port)
        await stack.enter_async_context(server)
        self._servers[server.port] = server
        return server

    @staticmethod
    def url_of(sentinels: list[SentinelServer]) -> str:
        """As kombu writes it, with the master's name in the query."""
        hosts = ";".join(f"sentinel://127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        return f"{hosts}/0?master_name={MASTER_NAME}"

    async def master(self) -> DataServer:
        """The server that all sentinels name, once that one says that it is the master."""
        while True:
            named = {await self._named_by(sentinel) for sentinel in self._sentinels}
            server = self._servers[named.pop()]
            if not named and await _role(server) == "master":
                return server
            await asyncio.sleep(_LOOK_S)

    async def _named_by(self, sentinel: SentinelServer) -> int:
        async with Redis(port=sentinel.port) as client:
            asked: Any = client
            state = await asked.sentinel_get_master_addr_by_name(MASTER_NAME)
            return int(state[1])

    async def kill_master(self) -> DataServer:
        """SIGKILL to the master; the server that was killed."""
        master = await self.master()
        await master.kill()
        return master

    async def revive(self, server: DataServer) -> None:
        """Start a server that was killed as a replica of the master of now."""
        server.master_port = (await self.master()).port
        await server.restart()

    def replicas(self, master: DataServer) -> list[DataServer]:
        """The others."""
        return [server for server in self._servers.values() if server is not master]

    async def whole(self) -> None:
        """Return once all replicas have what their master has and every sentinel knows them all."""
        while not (await self._is_linked() and await self._is_known()):
            await asyncio.sleep(_LOOK_S)

    async def _is_linked(self) -> bool:
        master = await self.master()
        async with Redis(port=master.port) as client:
            state = await client.info("replication")
        links = [state.get(f"slave{number}", {}) for number in range(_REPLICAS)]
        return all(link.get("state") == "online" for link in links)

    async def _is_known(self) -> bool:
        master = await self.master()
        for sentinel in self._sentinels:
            async with Redis(port=sentinel.port) as client:
                asked: Any = client
                state = (await asked.sentinel_masters())[MASTER_NAME]
                replicas = await asked.sentinel_slaves(MASTER_NAME)
            if state["port"] != master.port or state["num-other-sentinels"] != _SENTINELS - 1:
                return False
            if sum(not (one["is_sdown"] or one["is_odown"]) for one in replicas) != _REPLICAS:
                return False
        return True


async def _role(server: DataServer) -> str:
    try:
        async with Redis(port=server.port, socket_timeout=1.0) as client:
            return str((await client.info("replication"))["role"])
    except (RedisError, OSError):
        return ""

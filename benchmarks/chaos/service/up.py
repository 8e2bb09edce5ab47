"""The service with everything on: servers, parts and clients, while a context is open."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from benchmarks.chaos.disk import Disk
from benchmarks.chaos.links import Received, listening_receiver, make_key
from benchmarks.chaos.server import QueueServer
from benchmarks.chaos.service.client import Client
from benchmarks.chaos.service.parts import Part, environment, parts
from benchmarks.postgres import PostgresServer
from crucible.embedded.server import free_port
from crucible.history.database import open_database
from crucible.history.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

TENANTS, WORKERS = 4, 2
#: What may be on a disk of its own.
QUEUE, OBJECTS, HISTORY = "queue", "objects", "history"
#: Seconds for everything to serve, and between looks.
_START_S, _LOOK_S = 90.0, 0.2


@dataclass(frozen=True, slots=True)
class Service:
    """What is up.

    Attributes:
        queue: the task queue server.
        bus: the event bus.
        postgres: the server of the history; None where that is a SQLite file.
        history: the URL of its database.
        history_files: the directory of its files.
        disks: of its own, by what is on it; empty where the machine's is used.
        received: the receiver of webhooks.
        parts: the processes, those that others need first.
        clients: one for each tenant.
    """

    queue: QueueServer
    bus: QueueServer
    postgres: PostgresServer | None
    history: str
    history_files: Path
    disks: Mapping[str, Disk]
    received: Received
    parts: list[Part]
    clients: list[Client]

    def part(self, name: str) -> Part:
        """A process by the name of its part."""
        return next(part for part in self.parts if part.name == name)

    async def revive(self) -> None:
        """Start the processes again that have exited by themselves."""
        for part in self.parts:
            await part.revive()

    async def stop(self) -> list[str]:
        """SIGTERM all processes; the faults of those that did not exit with 0."""
        codes = await asyncio.gather(*(part.stop() for part in self.parts))
        return [
            f"{part.name} exited with {code}: {part.lines[-5:]}"
            for part, code in zip(self.parts, codes, strict=True)
            if code
        ]


@asynccontextmanager
async def serving(
    directory: Path,
    seed: int,
    engine_url: str = "",
    *,
    stock: bool = True,
    own_disks: bool = False,
    sqlite: bool = False,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Service]:
    """Start everything, and stop it in the end.

    Args:
        directory: for data; other users have to be able to pass it: PostgreSQL refuses to be run by
            root, and is another user's then.
        seed: of what the clients ask for.
        engine_url: of the engine for the executor; empty for the machine's.
        stock: whether there is a stock worker as well.
        own_disks: give the queue server, the objects and a SQLite history a disk each, which takes
            root and loop devices.
        sqlite: keep the history in a SQLite file instead of a PostgreSQL database.
        settings: further environment variables of the processes.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        disks: dict[str, Disk] = {}
        for name in (QUEUE, OBJECTS, *([HISTORY] if sqlite else [])) if own_disks else ():
            disks[name] = await enter(Disk(directory / f"{name}.image", directory / name))
        queue = await enter(QueueServer(directory / QUEUE / "server"))
        bus = await enter(QueueServer(directory / "bus"))
        history_files, postgres = directory / HISTORY / "files", None
        if sqlite:
            history_files.mkdir(parents=True)
            history = f"sqlite:///{history_files}/history.sqlite"
        else:
            postgres = await enter(PostgresServer(history_files))
            history = await postgres.create("history")
        async with open_database(history) as engine:
            await migrate(engine)
        received = await enter(listening_receiver())
        port = free_port()
        variables = environment(directory, queue.url, bus.url, history, port, engine_url)
        variables["CRUCIBLE_OBJECT_STORE_URL"] = f"file://{directory / OBJECTS}"
        processes = parts(directory, {**variables, **settings}, stock=stock)
        for part in processes:
            stack.push_async_callback(part.kill)
            await part.start()
        clients = [
            await _client(f"http://127.0.0.1:{port}", queue.url, received.url, seed, number)
            for number in range(TENANTS)
        ]
        await _until_ready(clients[0], WORKERS + stock)
        yield Service(
            queue, bus, postgres, history, history_files, disks, received, processes, clients
        )


async def _client(base: str, queue: str, receiver: str, seed: int, number: int) -> Client:
    tenant = f"tenant{number}"
    key = await make_key(queue, tenant, tier="premium")
    return Client(base, key.headers, tenant, receiver, random.Random(f"{seed}-{tenant}"))


async def _until_ready(client: Client, workers: int) -> None:
    async with asyncio.timeout(_START_S):
        while True:
            _, answer = await client.ask("GET", "/workers/status")
            if answer is not None and answer.get("online", 0) >= workers:
                return
            await asyncio.sleep(_LOOK_S)

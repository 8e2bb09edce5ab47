"""History, results and the client's ledger under SIGKILLs: do the three agree on every evaluation?

    python -m benchmarks.history_battle --evaluations 20000 --database sqlite postgresql

Mixed submissions go through an api, two workers and two historians while these, the event bus and
PostgreSQL are killed at random and started again. When all have ended, and ``crucible historian
repair`` has restored what the bus lost, each evaluation has to be in the history as its result in
Redis and the ledger of the client say. Programs are not run: what becomes of one is its code.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from redis.asyncio import Redis
from sqlalchemy import select

from benchmarks.command_process import ROOT, Process
from benchmarks.history_tasks import ENDS
from benchmarks.postgres import PostgresServer
from benchmarks.progress import LOOK_S, StalledError, until_done
from crucible.embedded.server import EmbeddedServer, free_port
from crucible.history.consumer import HistoryConsumer
from crucible.history.database import open_database
from crucible.history.migrate import migrate
from crucible.history.schema import evaluations
from crucible.redis_keys import HISTORIAN_GROUP, Keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

#: Submissions under way at once.
AT_ONCE = 32


@dataclass
class Account:
    """What came of a battle.

    Attributes:
        evaluations: that were accepted.
        kills: by what was killed.
        repaired: submissions and ends that the repair restored.
        faults: evaluations on which the three do not agree, with what each says.
        seconds: how long it took.
    """

    evaluations: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    repaired: str = ""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Battle:
    """One battle on one database.

    Args:
        directory: for data and logs.
        count: evaluations.
        kills: how many, evenly between submissions: each leaves time for some to be accepted.
        seed: of what is submitted and killed.
    """

    def __init__(self, directory: Path, count: int, kills: int, seed: int) -> None:
        self._directory = directory
        self._count = count
        self._kills = kills
        self._random = random.Random(seed)
        self._ledger: dict[str, str] = {}
        self._processes: list[Process] = []
        self.account = Account()

    async def run(self, database: str) -> Account:
        """Fight on ``sqlite`` or ``postgresql``."""
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            queue = await enter(EmbeddedServer(self._directory / "queue"))
            bus_port = free_port()
            bus = EmbeddedServer(self._directory / "bus", bus_port)
            await bus.__aenter__()
            stack.push_async_callback(bus.__aexit__, None, None, None)
            killers: dict[str, Callable[[], Awaitable[None]]] = {
                "event bus": lambda: _replace_bus(bus)
            }
            url = f"sqlite:///{self._directory}/history.sqlite"
            if database == "postgresql":
                server = await enter(PostgresServer(self._directory / "postgresql"))
                url = await server.create("history")
                killers["postgresql"] = lambda: _replace_postgres(server)
            async with open_database(url) as engine:
                await migrate(engine)
            port = free_port()
            environment = _environment(queue.url, bus.url, url, port)
            for name, arguments in _commands().items():
                process = Process(arguments, environment, self._directory / f"{name}.log")
                await process.start()
                stack.push_async_callback(process.stop)
                self._processes.append(process)
                killers[name] = process.replace
            try:
                await self._fight(f"http://127.0.0.1:{port}", killers)
                await self._settle(url, environment)
            except StalledError as error:
                raise StalledError("\n".join([str(error), *map(str, self._processes)])) from None
            await self._compare(f"http://127.0.0.1:{port}", url)
        self.account.seconds = time.monotonic() - began
        return self.account

    async def _fight(self, api: str, killers: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        ids = iter(range(self._count))
        killing = asyncio.create_task(self._kill(killers))
        try:
            async with aiohttp.ClientSession(api) as client, asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._submit_all(client, ids))
            await killing
            async with aiohttp.ClientSession(api) as client:
                await self._await_ends(client)
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)

    async def _kill(self, killers: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        for number in range(self._kills):
            while len(self._ledger) < self._count * (number + 1) // (self._kills + 1):
                await asyncio.sleep(LOOK_S / 10)
            # Each kind in turn, so that none is left out of a short battle.
            name = sorted(killers)[number % len(killers)]
            await asyncio.sleep(self._random.uniform(0, LOOK_S))
            await killers[name]()
            self.account.kills[name] = self.account.kills.get(name, 0) + 1

    async def _submit_all(self, client: aiohttp.ClientSession, ids: Any) -> None:
        for number in ids:
            eval_id = f"battle-{number}"
            code = self._random.choice(list(ENDS))
            body = {"code": code, "eval_id": eval_id, "metadata": {"number": number}}
            while not await _submitted(client, body):
                await asyncio.sleep(LOOK_S)
            self._ledger[eval_id] = code

    async def _await_ends(self, client: aiohttp.ClientSession) -> None:
        left = list(self._ledger)

        async def unended() -> object:
            while left:
                seen = await _seen(client, left[-1])
                if seen.get("status") not in ("completed", "failed"):
                    return len(left), left[-1], seen.get("status")
                left.pop()
            return None

        await until_done(unended)

    async def _settle(self, url: str, environment: Mapping[str, str]) -> None:
        """Wait until historians have written all there is, then repair what the bus lost."""
        async with Redis.from_url(environment[_BUS]) as client:
            await until_done(lambda: _unwritten(client))
        log = self._directory / "repair.log"
        repair = Process(["historian", "repair", "--json"], environment, log)
        await repair.start()
        if await repair.ended():
            self.account.faults.append(f"the repair failed: {log.read_text()}")
        self.account.repaired = log.read_text().strip()

    async def _compare(self, api: str, url: str) -> None:
        columns = (evaluations.c.eval_id, evaluations.c.status, evaluations.c.verdict)
        async with open_database(url) as engine, engine.connect() as connection:
            rows: Any = await connection.execute(select(*columns))
            history = {row.eval_id: (row.status, row.verdict) for row in rows}
        self.account.evaluations = len(self._ledger)
        async with aiohttp.ClientSession(api) as client:
            for eval_id, code in self._ledger.items():
                found = await _seen(client, eval_id)
                result = (found.get("status"), found.get("verdict"))
                if not ENDS[code] == result == history.get(eval_id):
                    self.account.faults.append(
                        f"{eval_id}: ledger {ENDS[code]}, result {result}, "
                        f"history {history.get(eval_id)}"
                    )
        self.account.faults += [f"{i}: never submitted" for i in history.keys() - self._ledger]


async def _unwritten(client: Redis) -> object:
    """What historians have not written: the oldest entry, and what each of them holds."""
    oldest_s = await HistoryConsumer(client, Keys(), 1).oldest_s()
    if oldest_s is None:
        return None
    members: Any = await client.xinfo_consumers(Keys().events, HISTORIAN_GROUP)
    groups: Any = await client.xinfo_groups(Keys().events)
    held = {one["name"].decode(): one["pending"] for one in members if one["pending"]}
    return {
        "oldest": oldest_s,
        "held": held,
        "read up to": [one["last-delivered-id"].decode() for one in groups],
    }


_BUS = "CRUCIBLE_EVENT_BUS_URL"


def _environment(queue: str, bus: str, history: str, port: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "CELERY_BROKER_URL": queue,
        _BUS: bus,
        "CRUCIBLE_HISTORY_URL": history,
        "CRUCIBLE_PORT": str(port),
        "CRUCIBLE_BREAKER_OPEN_S": "0.5",
        "CRUCIBLE_LOG_LEVEL": "warning",
        "PYTHONPATH": str(ROOT),
    }


def _commands() -> dict[str, list[str]]:
    tasks = ["--tasks", "benchmarks.history_tasks:registry", "--queues", "evaluation"]
    worker = ["worker", *tasks, "--concurrency", "16"]
    return {
        "api": ["api"],
        "worker 1": [*worker, "--name", "w1@battle"],
        "worker 2": [*worker, "--name", "w2@battle"],
        "historian 1": ["historian"],
        "historian 2": ["historian"],
    }


async def _replace_bus(bus: EmbeddedServer) -> None:
    os.kill(bus.pid, signal.SIGKILL)
    await bus.__aexit__(None, None, None)
    await bus.__aenter__()


async def _replace_postgres(server: PostgresServer) -> None:
    await server.stop(signal.SIGKILL)
    await server.start()


async def _submitted(client: aiohttp.ClientSession, body: dict[str, Any]) -> bool:
    """Whether it was accepted, now or before; the id makes asking again safe."""
    try:
        async with client.post("/api/eval", json=body) as response:
            return response.status in (200, 202)
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _seen(client: aiohttp.ClientSession, eval_id: str) -> dict[str, Any]:
    """An evaluation as the api shows it; empty where it does not answer now."""
    try:
        async with client.get(f"/api/eval/{eval_id}") as response:
            found: dict[str, Any] = await response.json() if response.status == 200 else {}
            return found
    except (aiohttp.ClientError, TimeoutError):
        return {}


async def battle(database: str, count: int, kills: int, seed: int) -> Account:
    """One battle in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="crucible-battle-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        return await Battle(directory, count, kills, seed).run(database)


async def main() -> int:
    """Fight on each database that was asked for, and print the accounts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--evaluations", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=140)
    parser.add_argument("--database", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    faults = 0
    for database in asked.database:
        account = await battle(database, asked.evaluations, asked.kills, asked.seed)
        print(f"{database}: {account.evaluations} evaluations in {account.seconds:.0f} s")
        print(f"  killed: {account.kills}, repaired: {account.repaired}")
        for fault in account.faults[:20]:
            print(f"  {fault}")
        print(f"  {len(account.faults)} on which the three do not agree")
        faults += len(account.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

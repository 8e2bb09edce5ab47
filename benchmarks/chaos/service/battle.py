"""One battle: the service with everything on, load, kills, and a comparison of all records."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import aiodocker

from benchmarks.chaos.links import containers_of_processes
from benchmarks.chaos.service.judge import Verdict, judge
from benchmarks.chaos.service.outages import Outages
from benchmarks.chaos.service.parts import STOCK
from benchmarks.chaos.service.records import Records
from benchmarks.chaos.service.up import Service, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from pathlib import Path

    from benchmarks.chaos.links import OwnEngine
    from benchmarks.chaos.service.parts import Part
    from benchmarks.postgres import PostgresServer

    Kill = Callable[[], Awaitable[None]]
    ShowPhase = Callable[[str], None]

#: Seconds until an executor under load has a lane, and between looks.
_LANE_S, _LOOK_S = 60.0, 0.2
_QUEUE = "queue server"


class Battle:
    """One battle.

    Args:
        directory: for data; other users have to be able to pass it.
        seed: of load and kills.
        show: called with each phase.
        engine: of the rig's own, which is killed as well; None: the machine's, which is not.
        stock: whether a stock worker takes part, with what it may lose.
        own_disks: whether disks are full and slow as well.
        sqlite: whether the history is in a SQLite file.
        apart: whether workers are cut off and clocks jump as well.
        only: of kills and outages these; empty for all.

    Attributes:
        verdict: what came of it so far.
        parts: the processes, with what they wrote.
    """

    def __init__(
        self,
        directory: Path,
        seed: int,
        show: ShowPhase,
        engine: OwnEngine | None = None,
        *,
        stock: bool = True,
        own_disks: bool = False,
        sqlite: bool = False,
        apart: bool = False,
        only: Collection[str] = (),
    ) -> None:
        self.verdict = Verdict()
        self.parts: list[Part] = []
        self._directory = directory
        self._random = random.Random(seed)
        self._seed = seed
        self._show = show
        self._engine = engine
        self._stock = stock
        self._own_disks, self._sqlite, self._apart = own_disks, sqlite, apart
        self._only = only
        self._killed_at: list[float] = []
        self._stock_hit_at: list[float] = []

    async def run(self, seconds: float, kills: int, pause_s: float, outages: int = 0) -> Verdict:
        """Load for so many seconds, with so many kills.

        Args:
            seconds: length of the load; longer where the outages take more.
            kills: in this time.
            pause_s: seconds between two requests of a client.
            outages: of disks, links and clocks, in this time as well.
        """
        began = time.monotonic()
        self._show("starting")
        url = self._engine.url if self._engine else ""
        async with serving(
            self._directory,
            self._seed,
            url,
            stock=self._stock,
            own_disks=self._own_disks,
            sqlite=self._sqlite,
            apart=self._apart,
        ) as service:
            self.parts = service.parts
            self._show("faults")
            await self._load(service, seconds, (kills, outages), pause_s)
            self._show("settling")
            records = Records(service, self.verdict)
            await records.settle()
            await records.collect()
            self.verdict.faults += await service.stop()
        ledgers = [client.ledger for client in service.clients]
        judge(self.verdict, ledgers, records.found, self._killed_at, self._stock_hit_at)
        self.verdict.seconds = time.monotonic() - began
        return self.verdict

    def _killers(self, service: Service) -> dict[str, Kill]:
        async def database(server: PostgresServer) -> None:
            await server.stop(signal.SIGKILL)
            await server.start()

        async def lane() -> None:
            await self._kill_lane(service.part("executor").pid)

        found: dict[str, Kill] = {part.name: part.replace for part in service.parts}
        found |= {
            _QUEUE: service.queue.crash,
            "event bus": service.bus.crash,
            "lane": lane,
        }
        if service.postgres is not None:
            found["PostgreSQL"] = partial(database, service.postgres)
        if self._engine is not None:
            found["engine"] = self._kill_engine
        return found

    async def _kill_lane(self, executor_pid: int) -> None:
        """SIGKILL a running container of the executor, once it has one."""
        url = self._engine.url if self._engine else None
        async with aiodocker.Docker(url=url) as docker, asyncio.timeout(_LANE_S):
            while True:
                made = sorted(await containers_of_processes({executor_pid}, url))
                for container_id in self._random.sample(made, len(made)):
                    try:
                        await docker.containers.container(container_id).kill()
                    except aiodocker.DockerError as error:
                        # It has just been removed, or is not started yet.
                        if error.status not in (404, 409):
                            raise
                    else:
                        return
                await asyncio.sleep(_LOOK_S)

    async def _kill_engine(self) -> None:
        assert self._engine is not None
        await self._engine.kill()
        await self._engine.start()

    async def _load(
        self, service: Service, seconds: float, counts: tuple[int, int], pause_s: float
    ) -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for client in service.clients:
                group.create_task(client.load(pause_s, stop))
            try:
                await self._suffer(service, seconds, *counts)
            finally:
                stop.set()

    async def _suffer(self, service: Service, seconds: float, kills: int, outages: int) -> None:
        """Kills and outages, one at a time and evenly spread."""
        loop = asyncio.get_running_loop()
        kinds = self._killers(service), Outages(service, self.verdict, self._stock_hit_at).all()
        plan = [
            ((number + 0.5) / count, name, kind)
            for count, kind in zip((kills, outages), kinds, strict=True)
            for number, name in enumerate(self._in_turn(kind, count))
        ]
        begin, step = loop.time(), seconds / (kills + outages + 1)
        for number, (share, name, kind) in enumerate(sorted(plan, key=lambda one: one[0])):
            at = begin + share * (seconds - step) + step * self._random.uniform(0, 1)
            await asyncio.sleep(max(0.0, at - loop.time()))
            await service.revive()
            began = time.time()
            await kind[name]()
            self._note(
                name, began, self.verdict.kills if kind is kinds[0] else self.verdict.outages
            )
            if number % 20 == 19:
                self._show(f"{number + 1} kills and outages")
        await asyncio.sleep(max(0.0, begin + seconds - loop.time()))

    def _in_turn(self, kind: Mapping[str, Kill], count: int) -> list[str]:
        """Each in turn in a random order, so that none is left out of a short battle."""
        names = sorted(name for name in kind if not self._only or name in self._only)
        order: list[str] = []
        while names and len(order) < count:
            order += self._random.sample(names, len(names))
        return order[:count]

    def _note(self, name: str, began: float, counted: dict[str, int]) -> None:
        """Count it, and each second of it as one in which something may be missing."""
        ended = time.time()
        self._killed_at += [*range(math.ceil(began), math.floor(ended) + 1), began, ended]
        if self._stock and name in (STOCK, _QUEUE):
            self._stock_hit_at.append(ended)
        counted[name] = counted.get(name, 0) + 1

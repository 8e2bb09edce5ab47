"""One cell: a server, an api, two workers, load, an outage, and what became of it."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from redis.asyncio import Redis

from benchmarks.chaos.links import ROOT, Child, FaultProxy
from benchmarks.chaos.outages.cells import Cell, Side
from benchmarks.chaos.outages.outage import Outage
from benchmarks.chaos.outages.runs import LEDGER_VARIABLE, WORKER_VARIABLE, Began, Ended, read
from benchmarks.chaos.outages.server import OutageServer
from benchmarks.chaos.outages.submissions import Submissions
from benchmarks.chaos.outages.verdict import Seen, Verdict, judge
from benchmarks.chaos.settling import ENDED, settle, statuses_of
from crucible.embedded.server import free_port
from crucible.redis_keys import DLQ, Keys
from crucible.settings.fields import QUEUES

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS, CONCURRENCY = 2, 8
#: Short evaluations a second, and seconds each takes.
_RATE, _SHORT_S = 3.0, 0.3
#: Seconds before the outage in which all that is long is claimed.
_LEAD_S = 1.5
#: Seconds that load goes on after the server has come back.
_TAIL_S = 6.0
_START_S = 120.0
_CLIENT_ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "TZ": "UTC"}


class Trial:
    """A cell under way.

    Args:
        cell: which.
        ledger_url: an empty database of a server that nothing happens to.
        tell: called with each phase.

    Attributes:
        logs: what each process wrote, once it is over.
    """

    def __init__(self, cell: Cell, ledger_url: str, tell: Callable[[str], None]) -> None:
        self.cell = cell
        self.logs: dict[str, list[str]] = {}
        self._ledger_url = ledger_url
        self._tell = tell
        self._children: dict[str, Child] = {}

    async def run(self) -> Verdict:
        """All of it."""
        async with AsyncExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crucible-outage-")))
            server = await stack.enter_async_context(OutageServer(home / "queue"))
            links = {
                side: await stack.enter_async_context(FaultProxy("127.0.0.1", server.port))
                for side in (Side.API, Side.WORKER)
            }
            outage = Outage(self.cell, server, links, home / "replica")
            stack.push_async_callback(outage.close)
            self._tell("starting")
            submissions = await self._start(stack, server, links)
            await outage.prepare()
            return judge(self.cell, await self._suffer(server, outage, submissions))

    async def _start(
        self, stack: AsyncExitStack, server: OutageServer, links: dict[Side, FaultProxy]
    ) -> Submissions:
        queue_url = server.url(Side.WORKER, links[Side.WORKER].port)
        for number in range(WORKERS):
            name = f"w{number}@outage"
            await self._child(
                stack, name,
                ["worker", "--tasks", "benchmarks.chaos.outages.tasks:registry",
                 "--queues", ",".join(QUEUES), "--concurrency", str(CONCURRENCY), "--name", name],
                CELERY_BROKER_URL=queue_url,
                **{LEDGER_VARIABLE: self._ledger_url, WORKER_VARIABLE: name},
            )  # fmt: skip
        port, api_url = free_port(), server.url(Side.API, links[Side.API].port)
        await self._child(
            stack, "api", ["api", "--port", str(port)],
            CELERY_BROKER_URL=api_url, CRUCIBLE_EVENT_BUS_URL=api_url,
        )  # fmt: skip
        base = f"http://127.0.0.1:{port}"
        await self._until_ready(base)
        return Submissions(base)

    async def _child(
        self, stack: AsyncExitStack, name: str, arguments: list[str], **environment: str
    ) -> None:
        kept = {
            key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ
        }
        child = Child(
            [sys.executable, "-m", "crucible", *arguments, "--log-level", "info"],
            {**kept, **_CLIENT_ENVIRONMENT, **environment},
        )
        await stack.enter_async_context(child)
        self._children[name] = child
        self.logs[name] = child.lines

    async def _until_ready(self, base: str) -> None:
        async with asyncio.timeout(_START_S), aiohttp.ClientSession(base) as session:
            while True:
                try:
                    async with session.get("/ready") as answer:
                        if (await answer.json())["workers_connected"] == WORKERS:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)

    async def _suffer(self, server: OutageServer, outage: Outage, submissions: Submissions) -> Seen:
        seconds = self.cell.seconds
        self._tell("loading")
        async with submissions.stream(_RATE, _SHORT_S):
            # Some end while the server is away, and some when it is back.
            await submissions.submit(
                [_LEAD_S + seconds / 2] * 3 + [_LEAD_S + seconds + 2] * 4 + [_LEAD_S + seconds + 12]
            )
            await asyncio.sleep(_LEAD_S)
            running = await self._running()
            self._tell("away")
            await outage.begin()
            await asyncio.sleep(seconds)
            await outage.end()
            restored_at = time.time()
            self._tell("back")
            await asyncio.sleep(_TAIL_S)
        self._tell("settling")
        async with server.client() as client:
            await self._settle(client, submissions)
            ended = [name for name, child in self._children.items() if child.returncode is not None]
            ended += await self._dismiss()
            return Seen(
                restored_at=restored_at,
                accepted=submissions.accepted,
                refused=submissions.refused,
                records=await self._records(),
                statuses=await statuses_of(client, list(submissions.accepted)),
                left=await _left(client),
                dead_letters=await client.xlen(DLQ),
                ended=ended,
                running=running,
            )

    async def _records(self) -> list[Any]:
        async with Redis.from_url(self._ledger_url) as client:
            return list(await read(client))

    async def _running(self) -> int:
        records = await self._records()
        ended = {record.run for record in records if isinstance(record, Ended)}
        return sum(isinstance(record, Began) and record.run not in ended for record in records)

    @staticmethod
    async def _settle(client: Any, submissions: Submissions) -> None:
        async def left() -> int:
            statuses = await statuses_of(client, list(submissions.accepted))
            return await _left(client) + sum(one not in ENDED for one in statuses.values())

        await settle(left)

    async def _dismiss(self) -> list[str]:
        """SIGTERM to all; those that do not end well."""
        living = {n: child for n, child in self._children.items() if child.returncode is None}
        codes = await asyncio.gather(*(child.stop(30) for child in living.values()))
        return [f"{name} ({code})" for name, code in zip(living, codes, strict=True) if code]


async def _left(client: Any) -> int:
    """Messages and claims."""
    keys = [Keys().step_list(queue, step) for queue in QUEUES for step in (0, 3, 6, 9)]
    waiting = sum([await client.llen(key) for key in keys])
    return int(waiting + await client.hlen("unacked") + await client.zcard("unacked_index"))

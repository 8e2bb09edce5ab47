"""An api, a queue server and two workers on hosts of their own, while links fail between them."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.chaos.links import ROOT, Child
from benchmarks.chaos.network.delay import DelayProxy
from benchmarks.chaos.network.hosts import Host, Network
from benchmarks.chaos.outages.runs import LEDGER_VARIABLE, WORKER_VARIABLE, Began, read
from benchmarks.chaos.outages.submissions import Submissions
from benchmarks.chaos.settling import results_of, settled
from crucible.embedded.server import EmbeddedServer, find_binary
from crucible.settings.fields import QUEUES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: On hosts of their own nothing else listens.
_QUEUE_PORT, _API_PORT = 6379, 8000
#: Seconds a byte takes to and from the slow worker, one way: 200 ms for a round trip.
DELAY_S = 0.1
#: Seconds that the clocks of the two workers differ from the others', in opposite directions.
CLOCKS_S = (-600, 600)
#: Evaluations a second, and seconds each takes.
_RATE, _SHORT_S = 10.0, 0.2
#: Seconds the evaluations take that run when a link is cut.
_LONG_S = 3.0
_LEAD_S = 2.0
_START_S = 120.0


class Found(msgspec.Struct, kw_only=True):
    """What became of it.

    Attributes:
        accepted: evaluations answered with 202.
        refused: refusals by HTTP status, 0 for none.
        lost: accepted and without a result.
        failed: ended otherwise than well.
        results: evaluations whose result changed after it was stored.
        reruns: evaluations that began more than once, as those must whose worker is cut off.
        meanwhile: evaluations that began during each cut.
        by_worker: runs that each worker began.
        ended: processes that ended.
    """

    accepted: int
    refused: dict[int, int]
    lost: list[str]
    failed: list[str]
    results: list[str]
    reruns: int
    meanwhile: dict[str, int]
    by_worker: dict[str, int]
    ended: list[str]

    @property
    def faults(self) -> list[str]:
        """What must not be."""
        lists = ("lost", "failed", "results", "ended")
        found = [f"{len(getattr(self, name))} {name}" for name in lists if getattr(self, name)]
        if server_errors := sum(n for status, n in self.refused.items() if status not in (0, 503)):
            found.append(f"{server_errors} refused with neither 503 nor silence")
        found += [f"nothing began during {name}" for name, n in self.meanwhile.items() if not n]
        return found


class Trial:
    """Hosts under way.

    Args:
        tell: called with each phase.

    Attributes:
        logs: what each process wrote, once it is over.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.logs: dict[str, list[str]] = {}
        self._tell = tell
        self._children: dict[str, Child] = {}
        self._ledger_url = ""
        self._windows: dict[str, tuple[float, float]] = {}

    async def run(self, cut_s: float) -> Found:
        """Cut the first worker off for so many seconds, then one way for as many."""
        async with AsyncExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crucible-net-")))
            # A socket in the file system is reached from every namespace, also by those cut off.
            socket = home / "ledger.sock"
            ledger = await stack.enter_async_context(_Ledger(home / "ledger", socket))
            self._ledger_url = f"unix://{socket}"
            self._tell("starting")
            network = await stack.enter_async_context(Network())
            queue, api, near, far = [
                await network.host(name) for name in ("queue", "api", "near", "far")
            ]
            await self._start_queue(stack, queue, home / "queue")
            slow = DelayProxy(queue.address, _QUEUE_PORT, network.own_address, DELAY_S)
            await stack.enter_async_context(slow)
            direct = f"redis://{queue.address}:{_QUEUE_PORT}/0"
            links = (direct, f"redis://{network.own_address}:{slow.port}/0")
            for host, url, clock_s in zip((near, far), links, CLOCKS_S, strict=True):
                await self._start_worker(stack, host, url, clock_s)
            # Beyond loopback the api serves nobody without a key.
            key = await self._key(direct)
            submissions = Submissions(await self._start_api(stack, api, direct), key)
            async with submissions.stream(_RATE, _SHORT_S):
                await self._cut("cut", near.cut, near, submissions, cut_s)
                await self._cut(
                    "one-way cut", lambda: near.deafen(queue.address), near, submissions, cut_s
                )
            self._tell("settling")
            async with Redis.from_url(direct) as client:
                return await self._judge(client, submissions, ledger)

    async def _cut(
        self,
        name: str,
        cut: Callable[[], Awaitable[None]],
        host: Host,
        submissions: Submissions,
        seconds: float,
    ) -> None:
        """Cut while long evaluations run at both workers; heal after so many seconds."""
        await submissions.submit([_LONG_S] * 6)
        await asyncio.sleep(_LEAD_S)
        self._tell(name)
        await cut()
        began = time.time()
        await asyncio.sleep(seconds)
        self._windows[name] = began, time.time()
        self._tell("healed")
        await host.heal()
        await asyncio.sleep(_LEAD_S)

    async def _start_queue(self, stack: AsyncExitStack, host: Host, directory: Path) -> None:
        directory.mkdir()
        arguments = ("--bind", "0.0.0.0", "--port", str(_QUEUE_PORT), "--protected-mode", "no",
                     "--dir", str(directory), "--appendonly", "yes", "--save", "")  # fmt: skip
        await self._child(stack, "queue", host.command(str(find_binary()), *arguments))
        async with asyncio.timeout(_START_S), Redis(host=host.address) as client:
            while True:
                try:
                    await client.info("server")
                    return
                except (RedisError, OSError):
                    await asyncio.sleep(0.05)

    async def _start_worker(
        self, stack: AsyncExitStack, host: Host, queue_url: str, clock_s: int
    ) -> None:
        name = f"{host.name}@network"
        await self._child(
            stack, name,
            host.command(
                sys.executable, "-m", "crucible", "worker", "--queues", ",".join(QUEUES),
                "--tasks", "benchmarks.chaos.outages.tasks:registry", "--concurrency", "8",
                "--name", name),
            CELERY_BROKER_URL=queue_url, CHAOS_CLOCK_S=str(clock_s),
            **{LEDGER_VARIABLE: self._ledger_url, WORKER_VARIABLE: name},
        )  # fmt: skip

    async def _key(self, queue_url: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "crucible", "keys", "create", "network", "--json"),
            cwd=ROOT, env={**os.environ, "CELERY_BROKER_URL": queue_url},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        return str(msgspec.json.decode(output)["key"])

    async def _start_api(self, stack: AsyncExitStack, host: Host, queue_url: str) -> str:
        await self._child(
            stack, "api",
            host.command(
                sys.executable, "-m", "crucible", "api", "--host", host.address,
                "--port", str(_API_PORT), "--allowed-hosts", "*"),
            CELERY_BROKER_URL=queue_url, CRUCIBLE_EVENT_BUS_URL=queue_url,
        )  # fmt: skip
        base = f"http://{host.address}:{_API_PORT}"
        async with asyncio.timeout(_START_S), aiohttp.ClientSession(base) as session:
            while True:
                try:
                    async with session.get("/ready") as answer:
                        if (await answer.json())["workers_connected"] == len(CLOCKS_S):
                            return base
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)

    async def _child(
        self, stack: AsyncExitStack, name: str, command: list[str], **environment: str
    ) -> None:
        kept = {
            key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ
        }
        path = f"{ROOT}:{Path(__file__).parent / 'clock'}"
        child = Child(command, {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment})
        await stack.enter_async_context(child)
        self._children[name] = child
        self.logs[name] = child.lines

    async def _judge(
        self, client: Redis, submissions: Submissions, ledger: EmbeddedServer
    ) -> Found:
        ids = list(submissions.accepted)
        statuses = await settled(client, ids)
        first = await results_of(client, ids)
        # What the worker that was cut off still had at hand has ended by then.
        await asyncio.sleep(_LONG_S)
        last = await results_of(client, ids)
        ended = [name for name, child in self._children.items() if child.returncode is not None]
        async with Redis.from_url(ledger.url) as records_client:
            records = await read(records_client)
        began = [record for record in records if isinstance(record, Began)]
        return Found(
            accepted=len(ids),
            refused=dict(submissions.refused),
            lost=sorted(one for one, status in statuses.items() if not status),
            failed=sorted(one for one, status in statuses.items() if status == "FAILURE"),
            results=sorted(one for one in ids if first[one] != last[one]),
            reruns=sum(count > 1 for count in Counter(one.eval_id for one in began).values()),
            meanwhile={name: self._begun(began, *window) for name, window in self._windows.items()},
            by_worker=dict(Counter(record.worker for record in began)),
            ended=ended,
        )

    def _begun(self, records: list[Began], since: float, until: float) -> int:
        """Evaluations that began in a time, whatever the clocks of their workers say."""
        clocks = dict(zip(self._workers(), CLOCKS_S, strict=True))
        return sum(since <= record.at - clocks[record.worker] <= until for record in records)

    def _workers(self) -> list[str]:
        return [name for name in self._children if name.endswith("@network")]


class _Ledger(EmbeddedServer):
    """A server that is reached over a socket as well."""

    def __init__(self, directory: Path, socket: Path) -> None:
        super().__init__(directory, durable=False)
        self._socket = socket

    def _arguments(self) -> list[str]:
        return [*super()._arguments(), "--unixsocket", str(self._socket)]

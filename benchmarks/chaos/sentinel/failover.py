"""Rounds of failover: an api, two workers, load, and a master that is killed again and again."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from redis.asyncio import Redis

from benchmarks.chaos.links import ROOT, Child
from benchmarks.chaos.outages.runs import LEDGER_VARIABLE, WORKER_VARIABLE, Began, read
from benchmarks.chaos.outages.submissions import Submissions
from benchmarks.chaos.sentinel.cluster import SentinelCluster
from benchmarks.chaos.settling import ENDED, settled
from crucible.embedded.server import EmbeddedServer, free_port
from crucible.settings.fields import QUEUES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Seconds after the death of the master in which the service must be back.
BACK_S = 5.0
WORKERS, CONCURRENCY = 2, 8
#: Evaluations a second, and seconds each takes.
_RATE, _SHORT_S = 20.0, 0.1
#: Seconds of load before the first kill, and between a server's return and the next.
_LEAD_S = 1.5
_START_S, _WHOLE_S = 120.0, 60.0


class Round(msgspec.Struct, kw_only=True):
    """One failover.

    Attributes:
        api_back_s: from the kill to the first submission that was sent after it and accepted.
        worker_back_s: the same to the first evaluation that began.
    """

    api_back_s: float | None
    worker_back_s: float | None


class Failovers(msgspec.Struct, kw_only=True):
    """What became of all of it.

    Attributes:
        rounds: each failover.
        accepted: evaluations answered with 202.
        refused: refusals by HTTP status, 0 for none.
        lost: accepted and without a result.
        failed: ended otherwise than well.
        twice: begun more than once: a claim or an end had not reached the new master.
        ended: processes that ended, or would not.
    """

    rounds: list[Round]
    accepted: int
    refused: dict[int, int]
    lost: list[str]
    failed: list[str]
    twice: int
    ended: list[str]

    @property
    def faults(self) -> list[str]:
        """What must not be."""
        counts = {name: len(getattr(self, name)) for name in ("lost", "failed", "ended")}
        found = [f"{count} {name}" for name, count in counts.items() if count]
        if server_errors := sum(n for status, n in self.refused.items() if status not in (0, 503)):
            found.append(f"{server_errors} refused with neither 503 nor silence")
        return found

    @property
    def late(self) -> list[str]:
        """What took longer than it may; a busy machine decides over it as well."""
        return [
            f"{side} back after {'no time' if seconds is None else f'{seconds:.1f} s'}"
            for one in self.rounds
            for side, seconds in (("api", one.api_back_s), ("workers", one.worker_back_s))
            if seconds is None or seconds > BACK_S
        ]


class Trial:
    """Failovers under way.

    Args:
        replicas: ``CRUCIBLE_REPLICAS`` of the api.
        tell: called with each phase.

    Attributes:
        logs: what each process wrote, once it is over.
    """

    def __init__(self, replicas: int, tell: Callable[[str], None]) -> None:
        self.logs: dict[str, list[str]] = {}
        self._replicas = replicas
        self._tell = tell
        self._children: dict[str, Child] = {}
        self._ledger_url = ""

    async def run(self, rounds: int) -> Failovers:
        """All of it."""
        async with AsyncExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crucible-ha-")))
            ledger = await stack.enter_async_context(EmbeddedServer(home / "ledger"))
            self._ledger_url = ledger.url
            self._tell("starting")
            cluster = await stack.enter_async_context(SentinelCluster(home))
            submissions = Submissions(await self._start(stack, cluster.url))
            kills: list[float] = []
            async with submissions.stream(_RATE, _SHORT_S):
                for number in range(rounds):
                    await asyncio.sleep(_LEAD_S)
                    self._tell(f"round {number + 1}: killing the master")
                    kills.append(time.time())
                    killed = await cluster.kill_master()
                    async with asyncio.timeout(_WHOLE_S):
                        await cluster.revive(killed)
                        await cluster.whole()
                await asyncio.sleep(_LEAD_S)
            self._tell("settling")
            return await self._judge(cluster, submissions, kills)

    async def _start(self, stack: AsyncExitStack, queue_url: str) -> str:
        for number in range(WORKERS):
            name = f"w{number}@sentinel"
            await self._child(
                stack, name,
                ["worker", "--tasks", "benchmarks.chaos.outages.tasks:registry",
                 "--queues", ",".join(QUEUES), "--concurrency", str(CONCURRENCY), "--name", name],
                CELERY_BROKER_URL=queue_url,
                **{LEDGER_VARIABLE: self._ledger_url, WORKER_VARIABLE: name},
            )  # fmt: skip
        port = free_port()
        await self._child(
            stack, "api", ["api", "--port", str(port)], CELERY_BROKER_URL=queue_url,
            CRUCIBLE_EVENT_BUS_URL=queue_url, CRUCIBLE_REPLICAS=str(self._replicas),
        )  # fmt: skip
        base = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(_START_S), aiohttp.ClientSession(base) as session:
            while True:
                try:
                    async with session.get("/ready") as answer:
                        if (await answer.json())["workers_connected"] == WORKERS:
                            return base
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)

    async def _child(
        self, stack: AsyncExitStack, name: str, arguments: list[str], **environment: str
    ) -> None:
        kept = {
            key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ
        }
        child = Child(
            [sys.executable, "-m", "crucible", *arguments, "--log-level", "info"],
            {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
        )
        await stack.enter_async_context(child)
        self._children[name] = child
        self.logs[name] = child.lines

    async def _judge(
        self, cluster: SentinelCluster, submissions: Submissions, kills: list[float]
    ) -> Failovers:
        master = await cluster.master()
        async with Redis.from_url(master.url) as client:
            statuses = await settled(client, list(submissions.accepted))
        ended = [name for name, child in self._children.items() if child.returncode is not None]
        living = {n: child for n, child in self._children.items() if child.returncode is None}
        codes = await asyncio.gather(*(child.stop(30) for child in living.values()))
        ended += [f"{name} ({code})" for name, code in zip(living, codes, strict=True) if code]
        async with Redis.from_url(self._ledger_url) as client:
            began = [record for record in await read(client) if isinstance(record, Began)]
        runs: dict[str, int] = {}
        for record in began:
            runs[record.eval_id] = runs.get(record.eval_id, 0) + 1
        return Failovers(
            rounds=[
                Round(
                    api_back_s=_after(kill, following, submissions.accepted.values()),
                    worker_back_s=_after(kill, following, [record.at for record in began]),
                )
                for kill, following in itertools.pairwise([*kills, math.inf])
            ],
            accepted=len(submissions.accepted),
            refused=dict(submissions.refused),
            lost=sorted(one for one, status in statuses.items() if status not in ENDED),
            failed=sorted(one for one, status in statuses.items() if status == "FAILURE"),
            twice=sum(count > 1 for count in runs.values()),
            ended=ended,
        )


def _after(kill: float, next_kill: float, times: Iterable[float]) -> float | None:
    """Seconds from a kill to the end of the pause it made: the longest gap before the next kill.

    What was on its way when the master died may still be answered, so the first answer after the
    kill says nothing.
    """
    near = sorted(at for at in times if kill - _LEAD_S <= at < next_kill)
    gaps = [(after - before, after) for before, after in itertools.pairwise(near)]
    return round(max(gaps)[1] - kill, 2) if gaps else None

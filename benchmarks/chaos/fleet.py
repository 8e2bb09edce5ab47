"""The worker processes, each with its own link to the server and replaced as soon as it exits."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Self

from benchmarks.chaos.ledger import URL_VARIABLE, WORKER_VARIABLE
from benchmarks.chaos.links import ROOT, Child, FaultProxy
from benchmarks.chaos.workload import QUEUES

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds a worker may take to exit after SIGTERM.
STOP_S = 30.0
#: Concurrency of a worker; for stock its number of processes.
CONCURRENCY = {"crucible": 8, "stock": 2}
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR")


def environment(queue_url: str, ledger_url: str, **more: str) -> dict[str, str]:
    """The environment of every process of the run."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TZ": "UTC",
        "CELERY_BROKER_URL": queue_url,
        URL_VARIABLE: ledger_url,
        **more,
    }


def worker_command(subject: str, node: str) -> list[str]:
    """The command line of one worker."""
    queues, concurrency = ",".join(QUEUES), str(CONCURRENCY[subject])
    if subject == "stock":
        return [
            *(sys.executable, "-m", "celery", "-A", "benchmarks.chaos.stock_app", "worker"),
            *("-P", "prefork", "-c", concurrency, "-Q", queues, "-n", node, "-E", "-l", "WARNING"),
            # Without mingle and gossip: they are of no use here, and mingle takes a second.
            *("--without-mingle", "--without-gossip"),
        ]
    return [
        *(sys.executable, "-m", "crucible", "worker", "--tasks", "benchmarks.chaos.tasks:registry"),
        *("--queues", queues, "--concurrency", concurrency, "--name", node, "--events"),
        *("--log-level", "warning"),
    ]


class Seat:
    """A position in the fleet: a link to the server, and the worker that uses it now.

    Attributes:
        subject: ``crucible`` or ``stock``.
        node: node name of the current worker.
        proxy: its link to the queue server.
        busy: a fault is in progress; no other is started.
    """

    def __init__(self, number: int, subject: str, proxy: FaultProxy, fleet: Fleet) -> None:
        self.subject = subject
        self.proxy = proxy
        self.busy = False
        self.node = ""
        self._number = number
        self._count = 0
        self._fleet = fleet
        self.child: Child | None = None

    async def occupy(self) -> None:
        """Start the next worker."""
        self._count += 1
        self.node = f"{self.subject}{self._number}.{self._count}@chaos"
        child = Child(
            worker_command(self.subject, self.node),
            environment(
                self.proxy.url(), self._fleet.ledger_url, **self._fleet.settings,
                **{WORKER_VARIABLE: self.node},
            ),
        )  # fmt: skip
        await child.__aenter__()
        self.child = child

    async def vacate(self) -> None:
        """SIGKILL the worker and its children, and keep its log."""
        child, self.child = self.child, None
        if child is not None:
            await child.__aexit__(None, None, None)
            self._fleet.logs[self.node] = child.lines[-200:]

    @property
    def up(self) -> bool:
        """Whether the worker is running."""
        return self.child is not None and self.child.returncode is None

    @property
    def pid(self) -> int:
        """Of the worker."""
        assert self.child is not None
        return self.child.pid

    @property
    def gone(self) -> bool:
        """Whether the worker exited by itself."""
        return self.child is not None and self.child.returncode is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP and SIGCONT to the process group, others to the worker only."""
        if self.child is None or not self.up:
            return
        with suppress(ProcessLookupError):
            if number in (signal.SIGSTOP, signal.SIGCONT):
                os.killpg(self.child.pid, number)
            else:
                self.child.send_signal(number)


class Fleet:
    """All workers of a run.

    Args:
        subjects: the subject of each seat.
        port: the queue server's.
        ledger_url: the ledger's server.
        settings: further environment variables.

    Attributes:
        logs: last lines of workers that exited.
        unexpected_exits: workers that exited although no fault hit them.
    """

    def __init__(
        self, subjects: Sequence[str], port: int, ledger_url: str, settings: dict[str, str]
    ) -> None:
        self.ledger_url = ledger_url
        self.settings = settings
        self.logs: dict[str, list[str]] = {}
        self.unexpected_exits: list[str] = []
        self.seats: list[Seat] = []
        self._subjects = subjects
        self._port = port
        self._stack = AsyncExitStack()
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for number, subject in enumerate(self._subjects, 1):
            proxy = await self._stack.enter_async_context(FaultProxy("127.0.0.1", self._port))
            seat = Seat(number, subject, proxy, self)
            self._stack.push_async_callback(seat.vacate)
            self.seats.append(seat)
            await seat.occupy()
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_watching()
        await self._stack.aclose()

    async def _stop_watching(self) -> None:
        watching, self._watching = self._watching, None
        if watching is None:
            return
        failed = watching.done()
        watching.cancel()
        await asyncio.wait([watching])
        if failed:
            # Without replacement the run would prove nothing, so a failed watcher fails the run.
            watching.result()

    async def _watch(self) -> None:
        """Replace workers that exited without being hit."""
        while True:
            await asyncio.sleep(0.2)
            for seat in self.seats:
                if seat.gone and not seat.busy:
                    await self._replace(seat)

    async def _replace(self, seat: Seat) -> None:
        seat.busy = True
        try:
            self.unexpected_exits.append(seat.node)
            await seat.vacate()
            await seat.occupy()
        finally:
            seat.busy = False

    async def stop(self) -> dict[str, int]:
        """SIGTERM all workers and return their exit codes; those that do not exit are killed."""
        await self._stop_watching()
        for seat in self.seats:
            seat.signal(signal.SIGTERM)
        return dict(await asyncio.gather(*(self._stopped(seat) for seat in self.seats)))

    async def _stopped(self, seat: Seat) -> tuple[str, int]:
        assert seat.child is not None
        try:
            code = await seat.child.wait(STOP_S)
        except AssertionError:
            code = -signal.SIGKILL
        await seat.vacate()
        return seat.node, code

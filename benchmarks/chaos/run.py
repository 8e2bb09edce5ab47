"""One run of one subject: servers, processes, fault injection, settling, verdict."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from benchmarks.chaos.executions import read
from benchmarks.chaos.fleet import Fleet, environment
from benchmarks.chaos.injector import FaultInjector, Planned, plan
from benchmarks.chaos.ledger import Ledger, open_client
from benchmarks.chaos.leftovers import LISTS, find
from benchmarks.chaos.links import Child
from benchmarks.chaos.records import FaultKind
from benchmarks.chaos.sandboxes import SandboxWatch
from benchmarks.chaos.server import QueueServer
from benchmarks.chaos.settling import settle
from benchmarks.chaos.verdict import Verdict, judge
from benchmarks.chaos.view import View
from benchmarks.chaos.watcher import Watcher
from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

#: The workers of each subject.
SEATS = {
    "crucible": ["crucible"] * 4,
    "stock": ["stock"] * 4,
    "mixed": ["crucible"] * 3 + ["stock"],
}
#: Seconds after which stock workers restore a dead one's messages: longer than any task or delay.
VISIBILITY_S = 15.0
#: Deliveries of one message before it becomes a dead letter: more than the faults can cause.
#: Messages that kill their workers have tests of their own.
_MAX_DELIVERIES = 100
#: Seconds without any task finishing after which a run counts as settled, whatever is left.
_PATIENCE_S = {"crucible": 45.0, "stock": 3 * VISIBILITY_S, "mixed": 60.0}
#: Seconds after the last task for stragglers and events.
_QUIET_S = 3.0
_READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """The parameters of a run.

    Attributes:
        subject: a name of ``SEATS``.
        seconds: how long faults are injected.
        kills: number of SIGKILLs.
        seed: seed of load and faults.
        rate: works a second, all producers together.
        seats: number of workers; 0: the subject's default.
        without: kinds of faults left out.
        programs: works that run a program in a sandbox, for every hundred others.
    """

    subject: str
    seconds: float
    kills: int
    seed: int
    rate: float = 24.0
    seats: int = 0
    without: tuple[FaultKind, ...] = ()
    programs: int = 0

    def plan(self) -> list[Planned]:
        """The planned faults."""
        # Stock workers lose messages when the server restarts.
        spared = (FaultKind.RESTART,) if self.subject == "mixed" else ()
        return plan(self.seed, self.kills, self.seconds, (*self.without, *spared))

    @property
    def subjects(self) -> list[str]:
        """The subject of each worker."""
        return SEATS[self.subject][: self.seats or None]


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The progress of a run."""

    subject: str
    phase: str
    elapsed_s: float
    kills: int
    faults: int
    accepted: int
    ended: int
    open: int


ShowProgress = Callable[[RunProgress], None]


class ChaosRun:
    """One run.

    Attributes:
        logs: last lines of every worker, after the run.
    """

    def __init__(self, options: Options, show_progress: ShowProgress) -> None:
        self.options = options
        self.logs: dict[str, list[str]] = {}
        self._show_progress = show_progress
        self._phase = "starting"
        self._begin = time.monotonic()
        self._view = View()
        self._injector: FaultInjector | None = None

    async def run(self) -> Verdict:
        """Start everything, inject the faults, let it settle, and judge."""
        async with AsyncExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crucible-chaos-")))
            server = await stack.enter_async_context(QueueServer(home / "queue"))
            ledger = EmbeddedServer(home / "ledger", durable=False)
            await stack.enter_async_context(ledger)
            client = await stack.enter_async_context(open_client(ledger.url))
            watcher = Watcher(server.url)
            sandboxes = SandboxWatch(self._view)
            besides = [self._view.follow(Ledger(client)), watcher.listen(), self._report()]
            if self.options.programs:
                besides.append(sandboxes.watch())
            for running in besides:
                await stack.enter_async_context(beside(running))
            await watcher.listening.wait()
            fleet = await stack.enter_async_context(self._fleet(server, ledger.url))
            await self._until_ready(fleet)
            injector = self._injector = FaultInjector(fleet, server, self._view, self.options.seed)
            producers = await self._start_producers(stack, server.url, ledger.url)
            self._phase = "faults"
            await injector.run(self.options.plan())
            for producer in producers:
                producer.send_signal(signal.SIGTERM)
                await producer.wait(30)
            await self._settle(server.url)
            await sandboxes.until_reaped({seat.pid for seat in fleet.seats})
            self._phase = "leaving"
            codes = await fleet.stop()
            await asyncio.sleep(_QUIET_S)
            history = read(self._view.records)
            left = await find(server.url, history.accepted)
            left.sandboxes = await sandboxes.left()
            self.logs = fleet.logs
            unexpected_exits = [
                *fleet.unexpected_exits,
                *(f"{n} ({c})" for n, c in codes.items() if c),
            ]
            return judge(
                history, injector.faults, left, watcher.heard, watcher.deaf, unexpected_exits
            )

    def _fleet(self, server: QueueServer, ledger_url: str) -> Fleet:
        settings = {
            "CRUCIBLE_MAX_DELIVERIES": str(_MAX_DELIVERIES),
            "CRUCIBLE_DRAIN_S": "10",
            # Stock workers sweep with it, and async ones on the same queues must have the same.
            "CRUCIBLE_VISIBILITY_TIMEOUT_S": (
                "3600" if self.options.subject == "crucible" else str(VISIBILITY_S)
            ),
        }
        return Fleet(self.options.subjects, server.port, ledger_url, settings)

    async def _until_ready(self, fleet: Fleet) -> None:
        async with asyncio.timeout(_READY_S):
            while any(seat.node not in self._view.ready for seat in fleet.seats):
                await asyncio.sleep(0.05)

    async def _start_producers(
        self, stack: AsyncExitStack, queue_url: str, ledger_url: str
    ) -> list[Child]:
        options = self.options
        commands = [["benchmarks.chaos.stock_producer", "stock-p", f"{options.rate / 4}"]]
        if options.subject == "stock":
            commands = [[commands[0][0], f"stock-p{n}", f"{options.rate / 4}"] for n in range(4)]
        else:
            commands += [
                ["benchmarks.chaos.producer", mode, mode, f"{options.rate / 4}"]
                for mode in ("single", "batch", "once")
            ]
        children = []
        for command in commands:
            child = Child(
                [sys.executable, "-m", *command, str(options.seed), str(options.programs)],
                environment(queue_url, ledger_url),
            )
            children.append(await stack.enter_async_context(child))
        return children

    async def _settle(self, url: str) -> None:
        """Wait until every accepted task has finished and nothing is queued, or progress stops."""
        self._phase = "settling"
        async with Redis.from_url(url) as client:

            async def left() -> int:
                return len(self._view.open) + await _queued(client)

            await settle(left, _PATIENCE_S[self.options.subject])
        await asyncio.sleep(_QUIET_S)

    async def _report(self) -> None:
        while True:
            self._show_progress(self._progress())
            await asyncio.sleep(0.5)

    def _progress(self) -> RunProgress:
        faults = self._injector.faults if self._injector else []
        return RunProgress(
            self.options.subject,
            self._phase,
            time.monotonic() - self._begin,
            sum(fault.kind is FaultKind.KILL for fault in faults),
            len(faults),
            self._view.accepted,
            len(self._view.ended),
            len(self._view.open),
        )


async def _queued(client: Any) -> int:
    """Messages and claims."""
    sizes = [await client.llen(name) for name in LISTS]
    return int(sum(sizes) + await client.hlen("unacked"))


@asynccontextmanager
async def beside(running: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine while the context is open; its failure is raised on leaving."""
    task = asyncio.create_task(running)
    try:
        yield
    finally:
        failed = task.done()
        task.cancel()
        await asyncio.wait([task])
        if failed:
            task.result()

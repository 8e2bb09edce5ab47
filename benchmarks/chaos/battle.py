"""One battle of one subject: servers, processes, storm, settling, verdict."""

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
from benchmarks.chaos.fleet import Node, environment
from benchmarks.chaos.ledger import Ledger, open_client
from benchmarks.chaos.leftovers import find
from benchmarks.chaos.links import Child
from benchmarks.chaos.records import FaultKind
from benchmarks.chaos.server import QueueServer
from benchmarks.chaos.storm import Planned, Storm, plan
from benchmarks.chaos.verdict import Verdict, judge
from benchmarks.chaos.view import View
from benchmarks.chaos.watcher import Watcher
from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

#: Who sits on the seats of each subject.
SEATS = {
    "crucible": ["crucible"] * 4,
    "stock": ["stock"] * 4,
    "mixed": ["crucible"] * 3 + ["stock"],
}
#: Stock workers hand a dead one's messages on after this time: longer than any task or delay.
VISIBILITY_S = 15.0
#: Deliveries of one message before it is given up: more than a storm can cause. What happens to a
#: message that kills its workers has tests of its own.
_MAX_DELIVERIES = 100
#: Seconds without any task ending after which a battle counts as settled, however it stands.
_PATIENCE_S = {"crucible": 45.0, "stock": 3 * VISIBILITY_S, "mixed": 60.0}
#: Seconds after the last task for stragglers and events.
_QUIET_S = 3.0
_READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be fought.

    Attributes:
        subject: a name of ``SEATS``.
        seconds: of the storm.
        kills: SIGKILLs in it.
        seed: of load and storm.
        rate: works a second, all producers together.
        seats: workers; 0 is the subject's own number.
        without: faults left out.
    """

    subject: str
    seconds: float
    kills: int
    seed: int
    rate: float = 24.0
    seats: int = 0
    without: tuple[FaultKind, ...] = ()

    def plan(self) -> list[Planned]:
        """The faults to come."""
        # Stock workers do not survive every restart of the server with all they had.
        spared = (FaultKind.RESTART,) if self.subject == "mixed" else ()
        return plan(self.seed, self.kills, self.seconds, (*self.without, *spared))

    @property
    def subjects(self) -> list[str]:
        """Who sits where."""
        return SEATS[self.subject][: self.seats or None]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a battle is, for whoever watches."""

    subject: str
    phase: str
    elapsed_s: float
    kills: int
    faults: int
    accepted: int
    ended: int
    open: int


Tell = Callable[[Standing], None]


class Battle:
    """A battle under way.

    Attributes:
        logs: last lines of every worker, once it is over.
    """

    def __init__(self, order: Order, tell: Tell) -> None:
        self.order = order
        self.logs: dict[str, list[str]] = {}
        self._tell = tell
        self._phase = "starting"
        self._begin = time.monotonic()
        self._view = View()
        self._storm: Storm | None = None

    async def fight(self) -> Verdict:
        """All of it."""
        async with AsyncExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crucible-chaos-")))
            server = await stack.enter_async_context(QueueServer(home / "queue"))
            books = EmbeddedServer(home / "ledger", durable=False)
            await stack.enter_async_context(books)
            client = await stack.enter_async_context(open_client(books.url))
            watcher = Watcher(server.url)
            for running in (self._view.follow(Ledger(client)), watcher.listen(), self._report()):
                await stack.enter_async_context(beside(running))
            await watcher.listening.wait()
            fleet = await stack.enter_async_context(self._fleet(server, books.url))
            await self._until_ready(fleet)
            storm = self._storm = Storm(fleet, server, self._view, self.order.seed)
            producers = await self._start_producers(stack, server.url, books.url)
            self._phase = "storm"
            await storm.rage(self.order.plan())
            for producer in producers:
                producer.send_signal(signal.SIGTERM)
                await producer.wait(30)
            await self._settle(server.url)
            self._phase = "leaving"
            codes = await fleet.dismiss()
            await asyncio.sleep(_QUIET_S)
            book = read(self._view.records)
            left = await find(server.url, book.accepted)
            self.logs = fleet.logs
            deserters = [*fleet.deserters, *(f"{n} ({c})" for n, c in codes.items() if c)]
            return judge(book, storm.faults, left, watcher.heard, watcher.deaf, deserters)

    def _fleet(self, server: QueueServer, ledger_url: str) -> Node:
        settings = {
            "CRUCIBLE_MAX_DELIVERIES": str(_MAX_DELIVERIES),
            "CRUCIBLE_DRAIN_S": "10",
            # Stock workers sweep with it; async ones beside them must know it.
            "CRUCIBLE_VISIBILITY_TIMEOUT_S": (
                "3600" if self.order.subject == "crucible" else str(VISIBILITY_S)
            ),
        }
        return Node(self.order.subjects, server.port, ledger_url, settings)

    async def _until_ready(self, fleet: Node) -> None:
        async with asyncio.timeout(_READY_S):
            while any(seat.node not in self._view.ready for seat in fleet.seats):
                await asyncio.sleep(0.05)

    async def _start_producers(
        self, stack: AsyncExitStack, queue_url: str, ledger_url: str
    ) -> list[Child]:
        order = self.order
        commands = [["benchmarks.chaos.stock_producer", "stock-p", f"{order.rate / 4}"]]
        if order.subject == "stock":
            commands = [[commands[0][0], f"stock-p{n}", f"{order.rate / 4}"] for n in range(4)]
        else:
            commands += [
                ["benchmarks.chaos.producer", mode, mode, f"{order.rate / 4}"]
                for mode in ("single", "batch", "once")
            ]
        children = []
        for command in commands:
            child = Child(
                [sys.executable, "-m", *command, str(order.seed)],
                environment(queue_url, ledger_url),
            )
            children.append(await stack.enter_async_context(child))
        return children

    async def _settle(self, url: str) -> None:
        """Until everything accepted has ended and nothing is queued, or nothing moves any more."""
        self._phase = "settling"
        view = self._view
        ended, since = len(view.ended), time.monotonic()
        async with Redis.from_url(url) as client:
            while time.monotonic() - since < _PATIENCE_S[self.order.subject]:
                await asyncio.sleep(0.25)
                if not view.open and not await self._busy(client):
                    break
                if len(view.ended) != ended:
                    ended, since = len(view.ended), time.monotonic()
        await asyncio.sleep(_QUIET_S)

    @staticmethod
    async def _busy(client: Any) -> bool:
        from benchmarks.chaos.leftovers import LISTS

        sizes = [await client.llen(name) for name in LISTS]
        return bool(sum(sizes) + await client.hlen("unacked"))

    async def _report(self) -> None:
        while True:
            self._tell(self._standing())
            await asyncio.sleep(0.5)

    def _standing(self) -> Standing:
        faults = self._storm.faults if self._storm else []
        return Standing(
            self.order.subject,
            self._phase,
            time.monotonic() - self._begin,
            sum(fault.kind is FaultKind.KILL for fault in faults),
            len(faults),
            self._view.accepted,
            len(self._view.ended),
            len(self._view.open),
        )


@asynccontextmanager
async def beside(running: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs it as long as the context is open; its failure is raised at the end."""
    task = asyncio.create_task(running)
    try:
        yield
    finally:
        failed = task.done()
        task.cancel()
        await asyncio.wait([task])
        if failed:
            task.result()

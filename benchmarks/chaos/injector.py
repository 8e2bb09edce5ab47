"""Plans faults from a seed and injects them into workers that are running something."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.chaos.fleet import STOP_S
from benchmarks.chaos.links import LinkFault
from benchmarks.chaos.records import Fault, FaultKind
from benchmarks.chaos.returns import Returns

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from benchmarks.chaos.fleet import Fleet, Seat
    from benchmarks.chaos.server import QueueServer
    from benchmarks.chaos.view import View

#: Number of other faults per SIGKILL, by kind.
_BESIDE = {
    FaultKind.TERM: 0.10,
    FaultKind.TERM_TWICE: 0.03,
    FaultKind.STOP: 0.04,
    FaultKind.RESET: 0.12,
    FaultKind.STALL: 0.04,
    FaultKind.BLACKHOLE: 0.03,
    FaultKind.LOST_REPLIES: 0.03,
    FaultKind.RESTART: 0.03,
}
_LINKS = {
    FaultKind.RESET: LinkFault.RESET,
    FaultKind.STALL: LinkFault.STALL,
    FaultKind.BLACKHOLE: LinkFault.BLACKHOLE,
    FaultKind.LOST_REPLIES: LinkFault.LOST_REPLIES,
}
#: Seconds of a SIGSTOP: longer than the TTL of a heartbeat.
_STOPPED_S = (11.0, 14.0)
#: Seconds of a link fault; a stall may be longer than the lease.
_BAD_S = {FaultKind.RESET: (0.05, 1.0), FaultKind.STALL: (1.0, 13.0)}
_BAD_ELSE_S = (0.5, 4.0)
#: Longest time a fault waits for a suitable worker, seconds.
_VICTIM_S = 60.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A planned fault.

    Attributes:
        at_s: seconds after the start of the injection.
        kind: what to do.
        length_s: how long it lasts, for faults that last.
    """

    at_s: float
    kind: FaultKind
    length_s: float = 0.0


def plan(seed: int, kills: int, seconds: float, without: Sequence[FaultKind] = ()) -> list[Planned]:
    """Plan ``kills`` SIGKILLs and the other kinds, each at least once, over ``seconds``."""
    chosen = random.Random(seed)
    kinds = [FaultKind.KILL] * kills
    for kind, share in _BESIDE.items():
        if kind not in without:
            kinds += [kind] * max(1, round(kills * share))
    return sorted(
        (Planned(chosen.uniform(0, seconds), kind, _length(chosen, kind)) for kind in kinds),
        key=lambda planned: planned.at_s,
    )


def _length(chosen: random.Random, kind: FaultKind) -> float:
    if kind is FaultKind.STOP:
        return chosen.uniform(*_STOPPED_S)
    return chosen.uniform(*_BAD_S.get(kind, _BAD_ELSE_S)) if kind in _LINKS else 0.0


@dataclass
class FaultInjector:
    """Carries out a plan.

    Attributes:
        faults: the faults injected so far.
    """

    fleet: Fleet
    server: QueueServer
    view: View
    seed: int
    faults: list[Fault] = field(default_factory=list)
    _lasting: set[asyncio.Task[None]] = field(default_factory=set)
    _errors: list[BaseException] = field(default_factory=list)
    _turns: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        # At least half of the workers stay free of lasting faults, to recover the others' claims.
        self._turns = asyncio.Semaphore(max(1, len(self.fleet.seats) // 2))

    async def run(self, planned: Sequence[Planned]) -> None:
        """Inject every planned fault in order and on time; returns once the last one is over."""
        chosen = random.Random(self.seed + 1)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        try:
            for one in planned:
                await asyncio.sleep(max(0.0, begin + one.at_s - loop.time()))
                await self._do(one, chosen)
            while self._lasting:
                await asyncio.wait(self._lasting)
            if self._errors:
                raise self._errors[0]
        finally:
            for task in self._lasting:
                task.cancel()
            await asyncio.gather(*self._lasting, return_exceptions=True)

    async def _do(self, one: Planned, chosen: random.Random) -> None:
        if one.kind is FaultKind.RESTART:
            await self._restart()
            return
        if one.kind is FaultKind.KILL:
            seat, fault = await self._begin(one, chosen)
            try:
                await self._kill(seat, fault)
            finally:
                seat.busy = False
        else:
            self._beside(self._last_in_turn(one, chosen))

    async def _begin(self, one: Planned, chosen: random.Random) -> tuple[Seat, Fault]:
        seat = await self._victim(chosen)
        seat.busy = True
        fault = Fault(one.kind, seat.node, time.time(), held=len(self.view.running[seat.node]))
        self.faults.append(fault)
        return seat, fault

    async def _last_in_turn(self, one: Planned, chosen: random.Random) -> None:
        """Run a lasting fault once fewer than half of the workers have one."""
        async with self._turns:
            seat, fault = await self._begin(one, chosen)
            await self._last(seat, fault, one.length_s)

    async def _kill(self, seat: Seat, fault: Fault) -> None:
        returns = Returns(self.server.url)
        worker_id = await returns.worker_id(seat.node)
        fault.begin = time.time()
        await seat.vacate()
        if worker_id:
            self._beside(returns.watch(fault, worker_id))
        await seat.occupy()

    def _beside(self, running: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(running)
        self._lasting.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._lasting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    async def _victim(self, chosen: random.Random) -> Seat:
        """A running worker without a fault, if possible one that is running a task."""
        # In a mixed run stock workers are not hit: what they lose by faults is not judged here.
        seats = [s for s in self.fleet.seats if s.subject == "crucible"] or self.fleet.seats
        async with asyncio.timeout(_VICTIM_S):
            while True:
                up = [s for s in seats if not s.busy and s.up and s.node in self.view.ready]
                working = [seat for seat in up if self.view.running[seat.node]]
                if working or (up and len(up) == len(seats)):
                    return chosen.choice(working or up)
                await asyncio.sleep(0.02)

    async def _restart(self) -> None:
        fault = Fault(FaultKind.RESTART, "", time.time())
        self.faults.append(fault)
        await self.server.crash()
        fault.end = time.time()

    async def _last(self, seat: Seat, fault: Fault, length_s: float) -> None:
        try:
            if fault.kind in _LINKS:
                seat.proxy.set(_LINKS[fault.kind])
                await asyncio.sleep(length_s)
                seat.proxy.set(LinkFault.PASS)
            elif fault.kind is FaultKind.STOP:
                seat.signal(signal.SIGSTOP)
                await asyncio.sleep(length_s)
                seat.signal(signal.SIGCONT)
            else:
                await self._ask_to_stop(seat, twice=fault.kind is FaultKind.TERM_TWICE)
        finally:
            seat.proxy.set(LinkFault.PASS)
            seat.signal(signal.SIGCONT)
            fault.end = time.time()
            seat.busy = False

    async def _ask_to_stop(self, seat: Seat, *, twice: bool) -> None:
        assert seat.child is not None
        seat.signal(signal.SIGTERM)
        if twice:
            await asyncio.sleep(0.2)
            seat.signal(signal.SIGTERM)
        try:
            await seat.child.wait(STOP_S)
        except AssertionError:
            self.fleet.unexpected_exits.append(f"{seat.node} (did not stop)")
        await seat.vacate()
        await seat.occupy()

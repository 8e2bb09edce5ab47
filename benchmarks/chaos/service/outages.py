"""Disks that are full or slow, cut links and jumping clocks, under the load of the battle.

Nothing is started again for them: what cannot be written meanwhile is refused or kept, and goes on
by itself once there is room. The queue server writes its file every second then, as ``crucible up``
has it; with ``appendfsync always`` it exits at the first write that fails, which a kill does too.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.chaos.server import ALWAYS, EVERY_SECOND
from benchmarks.chaos.service.parts import STOCK
from benchmarks.chaos.service.up import QUEUE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from benchmarks.chaos.service.judge import Verdict
    from benchmarks.chaos.service.up import Service

    #: Lines of each part so far.
    Written = Mapping[str, int]

#: Seconds that a disk is full or slow or a clock is wrong, and within which work has to go on then.
HOLD_S, _AGAIN_S = 2.0, 60.0
#: Seconds that a worker is cut off, for a heartbeat lasts 9, and that a clock jumps.
_CUT_S, _TURNED_S = 11.0, 600.0
#: Seconds that a stock worker takes to end, of which an outage may see the last.
_ENDING_S = 60.0
#: Seconds within which somebody has to write that a disk is full, and between looks.
_NOTICED_S, _LOOK_S = 60.0, 0.2
_FULL = ("No space left", "disk is full")
#: Lines that one process may write about one outage.
_LINES = 30


class Outages:
    """The outages of what a service has of its own: disks, hosts and clocks.

    Args:
        service: whose.
        verdict: gets what does not go on afterwards.
        stock_hit_at: when the stock worker or its server was killed, seconds since the epoch.
    """

    def __init__(self, service: Service, verdict: Verdict, stock_hit_at: Sequence[float]) -> None:
        self._service = service
        self._verdict = verdict
        self._stock_hit_at = stock_hit_at

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What brings each about, and returns once the service works again."""
        service = self._service
        found: dict[str, Callable[[Written], Awaitable[None]]] = {}
        for name in service.disks:
            found[f"{name} disk full"] = partial(self._fill, name)
            found[f"{name} disk slow"] = partial(self._slow_down, name)
        for name in service.hosts.hosts:
            found[f"{name} cut off"] = partial(self._cut_off, name)
        for name in service.hosts.clocks:
            found[f"{name} clock ahead"] = partial(self._turn, name, _TURNED_S)
            found[f"{name} clock behind"] = partial(self._turn, name, -_TURNED_S)
        return {name: partial(self._suffer, name, outage) for name, outage in found.items()}

    async def _suffer(self, fault: str, outage: Callable[[Written], Awaitable[None]]) -> None:
        service = self._service
        server_pid = service.queue.pid
        written = {part.name: len(part.log) for part in service.parts}
        await outage(written)
        await self._works_again(fault)
        ended = [part.name for part in service.parts if part.has_ended]
        if service.queue.pid != server_pid:
            ended.append("queue server")
        for one in ended:
            self._whose(fault, one).append(f"{one} ended: {fault}")
        for name, lines in self._new_lines(written).items():
            if len(lines) > _LINES:
                what = f"{fault}: {name} wrote {len(lines)} lines, such as {lines[-1]}"
                # How much stock writes when its connection breaks off is not ours to judge.
                told = self._verdict.of_stock if name == STOCK else self._verdict.faults
                told.append(what)

    def _whose(self, fault: str, part: str) -> list[str]:
        """Where it is kept what a part did about a fault.

        Stock's own loop ends with a traceback at a command that the queue server refuses, and at
        one in three kills of that server; then it lets its tasks end, for some seconds. An
        operator's supervisor starts it again.
        """
        recently = any(time.time() - at < _ENDING_S for at in self._stock_hit_at)
        of_stock = part == STOCK and (recently or fault == f"{QUEUE} disk full")
        return self._verdict.of_stock if of_stock else self._verdict.faults

    async def _slow_down(self, name: str, written: Written) -> None:
        async with self._service.disks[name].slow():
            await asyncio.sleep(HOLD_S)

    async def _cut_off(self, name: str, written: Written) -> None:
        """For longer than its heartbeat lasts: others get what it has, and it does not know."""
        host = self._service.hosts.hosts[name]
        await host.cut()
        try:
            await asyncio.sleep(_CUT_S)
        finally:
            await host.heal()

    async def _turn(self, name: str, seconds: float, written: Written) -> None:
        """A jump, and one back."""
        self._service.hosts.turn(name, seconds)
        try:
            await asyncio.sleep(HOLD_S)
        finally:
            self._service.hosts.turn(name, 0.0)

    async def _fill(self, name: str, written: Written) -> None:
        """Until somebody has noticed, and a while longer."""
        queue = self._service.queue if name == QUEUE else None
        if queue is not None:
            await queue.sync(EVERY_SECOND)
        async with self._service.disks[name].full():
            if queue is not None:
                await queue.until_writable(writable=False)
            until = time.monotonic() + _NOTICED_S
            while time.monotonic() < until and not self._told(written):
                await asyncio.sleep(_LOOK_S)
            self._verdict.noticed += self._told(written)
            await asyncio.sleep(HOLD_S)
        if queue is not None:
            await queue.until_writable(writable=True)
            await queue.sync(ALWAYS)

    def _told(self, written: Written) -> bool:
        """Whether somebody has written that a disk is full."""
        lines = [line for new in self._new_lines(written).values() for line in new]
        return any(word in line for line in lines for word in _FULL)

    def _new_lines(self, written: Written) -> dict[str, list[str]]:
        return {part.name: part.log[written[part.name] :] for part in self._service.parts}

    async def _works_again(self, fault: str) -> None:
        """Return once a new evaluation has ended."""
        client = self._service.clients[0]
        try:
            async with asyncio.timeout(_AGAIN_S):
                status, answer = await client.ask("POST", "/api/eval", {"code": "print(1)"})
                while answer and answer.get("status") not in ("completed", "failed"):
                    _, answer = await client.ask("GET", f"/api/eval/{answer['eval_id']}?wait=2")
        except TimeoutError:
            status, answer = 0, None
        if not answer or answer.get("verdict") != "ok":
            self._verdict.faults.append(f"{fault}: afterwards {status} {answer}")

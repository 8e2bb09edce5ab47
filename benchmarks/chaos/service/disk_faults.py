"""Disks that are full or slow for a while, under the load of the battle.

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
from benchmarks.chaos.service.up import QUEUE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from benchmarks.chaos.service.judge import Verdict
    from benchmarks.chaos.service.up import Service

#: Seconds that a disk is full or slow, and within which work has to go on afterwards.
HOLD_S, _AGAIN_S = 2.0, 60.0
#: Seconds within which somebody has to write that a disk is full, and between looks.
_NOTICED_S, _LOOK_S = 20.0, 0.2
_FULL = ("No space left", "disk is full")
#: Lines that one process may write about one outage.
_LINES = 30


class DiskFaults:
    """The faults of the disks that a service has.

    Args:
        service: whose.
        verdict: gets what does not go on afterwards.
    """

    def __init__(self, service: Service, verdict: Verdict) -> None:
        self._service = service
        self._verdict = verdict

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What brings each about, and returns once the service works again."""
        found: dict[str, Callable[[], Awaitable[None]]] = {}
        for name in self._service.disks:
            found[f"{name} disk full"] = partial(self._suffer, name, full=True)
            found[f"{name} disk slow"] = partial(self._suffer, name, full=False)
        return found

    async def _suffer(self, name: str, *, full: bool) -> None:
        service = self._service
        fault = f"{name} disk {'full' if full else 'slow'}"
        server_pid = service.queue.pid
        written = {part.name: len(part.log) for part in service.parts}
        if full:
            await self._fill(name, written)
        else:
            async with service.disks[name].slow():
                await asyncio.sleep(HOLD_S)
        await self._works_again(fault)
        ended = [part.name for part in service.parts if part.has_ended]
        if service.queue.pid != server_pid:
            ended.append("queue server")
        self._verdict.faults += [f"{one} ended: {fault}" for one in ended]
        for name, lines in self._new_lines(written).items():
            if len(lines) > _LINES:
                what = f"{fault}: {name} wrote {len(lines)} lines, such as {lines[-1]}"
                self._verdict.faults.append(what)

    async def _fill(self, name: str, written: Mapping[str, int]) -> None:
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

    def _told(self, written: Mapping[str, int]) -> bool:
        """Whether somebody has written that a disk is full."""
        lines = [line for new in self._new_lines(written).values() for line in new]
        return any(word in line for line in lines for word in _FULL)

    def _new_lines(self, written: Mapping[str, int]) -> dict[str, list[str]]:
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

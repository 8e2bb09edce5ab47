"""Bringing a state about, and ending it: on the server itself, or on one side's link."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from benchmarks.chaos.links import LinkFault
from benchmarks.chaos.outages.cells import Cell, Side, State
from benchmarks.chaos.outages.server import OutageServer, Replica

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.chaos.links import FaultProxy

_LINK_FAULTS = {
    State.STOPPED: LinkFault.RESET,
    State.KILLED: LinkFault.BLACKHOLE,
    State.FROZEN: LinkFault.STALL,
    State.FULL: LinkFault.NO_MEMORY,
}


class Outage:
    """One outage.

    Args:
        cell: which.
        server: the queue server.
        links: the link of each side.
        directory: for a replica.
    """

    def __init__(
        self, cell: Cell, server: OutageServer, links: Mapping[Side, FaultProxy], directory: Path
    ) -> None:
        self._cell = cell
        self._server = server
        self._links = links
        self._directory = directory
        self._stack = AsyncExitStack()
        self._replica: Replica | None = None

    async def prepare(self) -> None:
        """What must be there before it begins."""
        if self._cell.state is State.DEMOTED and self._cell.side is not Side.BOTH:
            self._replica = Replica(self._directory, self._server.port)
            await self._stack.enter_async_context(self._replica)
            await self._replica.followed()

    async def close(self) -> None:
        """End what was prepared."""
        await self._stack.aclose()

    @property
    def _sides(self) -> list[Side]:
        side = self._cell.side
        return [Side.API, Side.WORKER] if side is Side.BOTH else [side]

    async def begin(self) -> None:
        """The server is away from now on."""
        if self._cell.state is State.ROTATED:
            await self._server.rotate(self._sides, "another")
        elif self._cell.side is Side.BOTH:
            await self._begin_for_all()
        elif self._replica is not None:
            self._lead_to(self._replica.port)
        else:
            self._link.set(_LINK_FAULTS[self._cell.state])

    async def end(self) -> None:
        """Returns once the server answers again."""
        if self._cell.state is State.ROTATED:
            await self._server.rotate_back(self._sides)
        elif self._cell.side is Side.BOTH:
            await self._end_for_all()
        elif self._replica is not None:
            # New connections only: who is connected to the replica must find out.
            self._link.lead_to("127.0.0.1", self._server.port)
        else:
            self._link.set(LinkFault.PASS)

    @property
    def _link(self) -> FaultProxy:
        return self._links[self._cell.side]

    def _lead_to(self, port: int) -> None:
        self._link.lead_to("127.0.0.1", port)
        self._link.set(LinkFault.RESET)
        self._link.set(LinkFault.PASS)

    async def _begin_for_all(self) -> None:
        match self._cell.state:
            case State.STOPPED:
                await self._server.stop()
            case State.KILLED:
                await self._server.kill()
            case State.FROZEN:
                self._server.signal(signal.SIGSTOP)
            case State.DEMOTED:
                await self._server.demote()
            case _:
                self._server.fill()

    async def _end_for_all(self) -> None:
        match self._cell.state:
            case State.STOPPED | State.KILLED:
                await self._server.start()
            case State.FROZEN:
                self._server.signal(signal.SIGCONT)
            case State.DEMOTED:
                await self._server.promote()
            case _:
                await self._server.make_room()

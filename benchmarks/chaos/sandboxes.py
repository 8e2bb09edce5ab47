"""The sandboxes that the workers of a run make, and what is left of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from benchmarks.chaos.links import containers_of_processes, traces_of
from crucible.executor.reaper import SWEEP_S

if TYPE_CHECKING:
    from collections.abc import Collection

    from benchmarks.chaos.view import View

#: Seconds between two looks.
_LOOK_S = 0.5
#: Seconds within which living workers remove what dead ones left.
_REAPED_S = SWEEP_S + 15.0


class SandboxWatch:
    """Knows which containers there were.

    Attributes:
        seen: every container of any worker of the run that was there at a look.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self.seen: set[str] = set()

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            self.seen |= await containers_of_processes(self._view.pids)
            await asyncio.sleep(_LOOK_S)

    async def until_reaped(self, living: Collection[int]) -> None:
        """Wait until nothing is left of workers that are dead, or living ones had their time."""
        try:
            async with asyncio.timeout(_REAPED_S):
                while self.seen and await containers_of_processes(self._view.pids - {*living}):
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            return  # what is left then is a finding

    async def left(self) -> list[str]:
        """Containers of the run's workers, all of them dead, and what is left of removed ones."""
        if not self.seen:
            return []
        return [*await containers_of_processes(self._view.pids), *traces_of(self.seen)]

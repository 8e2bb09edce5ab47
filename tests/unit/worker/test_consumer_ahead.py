"""A worker does not run ahead of what the server knows of its work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from support.loop_turns import eventually, turns

from crucible.broker.claiming.claims import Claim, Settlement
from crucible.worker import settlement_writer as finishing
from crucible.worker import slots as slotting
from crucible.worker.consumer import Consumer, Holdings
from crucible.worker.hooks import Run
from crucible.worker.settlement_writer import SettlementWriter
from crucible.worker.slots import Slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from crucible.broker.claiming.claims import Claims

SIZE = 10
WAIT_S = 30.0
#: Endings that are enough, and what may have been claimed when they became that many.
MOST_HELD = finishing._ENOUGH + SIZE + slotting._MAX_AHEAD


class SlowToEnd:
    """A list that never ends, on a server that takes ends only when it is told to."""

    def __init__(self) -> None:
        self.taken = 0
        self.may_end = asyncio.Event()

    async def take(self, limit: int) -> list[Claim]:
        await asyncio.sleep(0)
        self.taken += limit
        return [Claim(f"f{self.taken - n}", "q", 0, b"") for n in range(limit)]

    async def settle(self, endings: Sequence[Settlement]) -> None:
        await self.may_end.wait()


class Rig:
    """An intake and what it claims for: tasks that end at once, in ``SIZE`` slots."""

    def __init__(self) -> None:
        self.claims, self.held = SlowToEnd(), Holdings()
        ours = cast("Claims", self.claims)
        self.finisher = SettlementWriter(ours, self._written)
        self.slots = Slots(self._perform, SIZE)
        self.intake = Consumer(ours, self.slots, self.held, self.finisher, None, lambda: False)

    async def _perform(self, run: Run) -> None:
        self.finisher.put(Settlement(run.claim))

    def _written(self, endings: Sequence[Settlement]) -> None:
        for ending in endings:
            assert ending.claim is not None
            self.held.drop(ending.claim)

    @asynccontextmanager
    async def running(
        self, *loops: Callable[[Callable[[], None]], Coroutine[None, None, None]]
    ) -> AsyncIterator[None]:
        """Run loops until enough has ended that waits to be written."""
        async with self.slots:
            tasks = [asyncio.create_task(loop(lambda: None)) for loop in loops]
            try:
                await eventually(lambda: self.finisher.full and not self.slots.busy, WAIT_S)
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)


async def test_no_more_is_claimed_while_ends_pile_up() -> None:
    """However fast tasks run, the worker holds a bounded number of messages; then it goes on."""
    rig = Rig()
    claims, held = rig.claims, rig.held
    async with rig.running(rig.intake.run, rig.finisher.run):
        await turns(1000)
        assert finishing._ENOUGH <= len(held) == claims.taken <= MOST_HELD
        claims.may_end.set()
        await eventually(lambda: claims.taken > 10 * MOST_HELD, WAIT_S)
        assert len(held) <= MOST_HELD


async def test_a_stop_is_heard_while_ends_pile_up() -> None:
    """Stopping does not wait for a server that takes no ends."""
    rig = Rig()
    async with rig.running(rig.intake.run):
        taken = rig.claims.taken
        async with asyncio.timeout(5):
            await rig.intake.stop()
        assert rig.claims.taken == taken

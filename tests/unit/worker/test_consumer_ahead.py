"""A worker does not run ahead of what the server knows of its work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from support.loop_turns import eventually, turns

from crucible.broker.claiming.claims import Claim, Settlement
from crucible.worker import settlement_writer as writer_module
from crucible.worker import slots as slots_module
from crucible.worker.consumer import Consumer
from crucible.worker.run import Run
from crucible.worker.settlement_writer import SettlementWriter
from crucible.worker.slots import Slots
from crucible.worker.unsettled import UnsettledRuns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from crucible.broker.claiming.claims import Claims

SIZE = 10
WAIT_S = 30.0
#: Settlements that fill the writer, and what may have been claimed when they became that many.
MOST_UNSETTLED = writer_module._FULL + SIZE + slots_module._MAX_AHEAD


class SlowToSettle:
    """A list that never ends, on a server that settles nothing before ``may_settle``."""

    def __init__(self) -> None:
        self.taken = 0
        self.may_settle = asyncio.Event()

    is_full = False

    async def take(self, limit: int, limit_when_full: int = 0) -> list[Claim]:
        await asyncio.sleep(0)
        self.taken += limit
        return [Claim(f"f{self.taken - n}", "q", 0, b"") for n in range(limit)]

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self.may_settle.wait()


class Rig:
    """A consumer and what it claims for: tasks that end at once, in ``SIZE`` slots."""

    def __init__(self) -> None:
        self.claims, self.unsettled = SlowToSettle(), UnsettledRuns()
        ours = cast("Claims", self.claims)
        self.writer = SettlementWriter(ours, self.unsettled.settled)
        self.slots = Slots(SIZE)
        self.consumer = Consumer(ours, self.slots, self.unsettled, self.writer, None, lambda: False)

    async def _process(self, run: Run) -> None:
        self.writer.put(Settlement(run.claim))

    @asynccontextmanager
    async def running(
        self, *loops: Callable[[Callable[[], None]], Coroutine[None, None, None]]
    ) -> AsyncIterator[None]:
        """Run loops until so much waits to be written that the writer is full."""
        async with self.slots.serving(self._process):
            tasks = [asyncio.create_task(loop(lambda: None)) for loop in loops]
            try:
                await eventually(lambda: self.writer.full and not self.slots.busy, WAIT_S)
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)


async def test_no_more_is_claimed_while_ends_pile_up() -> None:
    """However fast tasks run, the worker holds a bounded number of messages; then it goes on."""
    rig = Rig()
    claims, unsettled = rig.claims, rig.unsettled
    async with rig.running(rig.consumer.run, rig.writer.run):
        await turns(1000)
        assert writer_module._FULL <= len(unsettled) == claims.taken <= MOST_UNSETTLED
        claims.may_settle.set()
        await eventually(lambda: claims.taken > 10 * MOST_UNSETTLED, WAIT_S)
        assert len(unsettled) <= MOST_UNSETTLED


async def test_a_stop_is_heard_while_ends_pile_up() -> None:
    """Stopping does not wait for a server that settles nothing."""
    rig = Rig()
    async with rig.running(rig.consumer.run):
        taken = rig.claims.taken
        async with asyncio.timeout(60):
            await rig.consumer.stop()
        assert rig.claims.taken == taken

"""A worker does not run ahead of what the server knows of its work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from crucible.broker.claiming.claims import Claim, Ending
from crucible.worker import finisher as finishing
from crucible.worker import slots as slotting
from crucible.worker.finisher import Finisher
from crucible.worker.hooks import Run
from crucible.worker.intake import Holdings, Intake
from crucible.worker.slots import Slots

if TYPE_CHECKING:
    from crucible.broker.claiming.claims import Claims

SIZE = 10
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

    async def finish(self, endings: Sequence[Ending]) -> None:
        await self.may_end.wait()


async def passes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def test_no_more_is_claimed_while_ends_pile_up() -> None:
    """However fast tasks run, the worker holds a bounded number of messages; then it goes on."""
    claims, held = SlowToEnd(), Holdings()
    ours = cast("Claims", claims)

    def written(endings: Sequence[Ending]) -> None:
        for ending in endings:
            assert ending.claim is not None
            held.drop(ending.claim)

    finisher = Finisher(ours, written)

    async def perform(run: Run) -> None:
        finisher.put(Ending(run.claim))

    async with Slots(perform, SIZE) as slots:
        intake = Intake(ours, slots, held, finisher, None, lambda: False)
        loops = [
            asyncio.create_task(intake.run(lambda: None)),
            asyncio.create_task(finisher.run(lambda: None)),
        ]
        try:
            await passes(lambda: finisher.full and not slots.busy)
            for _ in range(1000):
                await asyncio.sleep(0)
            assert finishing._ENOUGH <= len(held) == claims.taken <= MOST_HELD
            claims.may_end.set()
            await passes(lambda: claims.taken > 10 * MOST_HELD)
            assert len(held) <= MOST_HELD
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.wait(loops)


async def test_a_stop_is_heard_while_ends_pile_up() -> None:
    """Stopping does not wait for a server that takes no ends."""
    claims, held = SlowToEnd(), Holdings()
    ours = cast("Claims", claims)
    finisher = Finisher(ours, lambda _: None)

    async def perform(run: Run) -> None:
        finisher.put(Ending(run.claim))

    async with Slots(perform, SIZE) as slots:
        intake = Intake(ours, slots, held, finisher, None, lambda: False)
        running = asyncio.create_task(intake.run(lambda: None))
        try:
            await passes(lambda: finisher.full and not slots.busy)
            taken = claims.taken
            async with asyncio.timeout(5):
                await intake.stop()
            assert claims.taken == taken
        finally:
            running.cancel()
            await asyncio.wait([running])

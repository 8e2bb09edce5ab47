"""A worker that was asleep starts nothing before it knows what is still its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from crucible.broker.claiming.claims import Claim
from crucible.broker.claiming.settlement import Settlement
from crucible.worker.consumer import Holdings
from crucible.worker.execution.cancellation import stop_run
from crucible.worker.hooks import Run, Stop
from crucible.worker.processor import Processor

if TYPE_CHECKING:
    from crucible.broker.claiming.claims import Claims
    from crucible.worker.execution.execute import Trace
    from crucible.worker.upkeep import Upkeep


class Signs:
    """Signs of life that are overdue for as long as the test says."""

    def __init__(self) -> None:
        self.overdue = True
        self.shown = asyncio.Event()

    async def caught_up(self) -> None:
        if self.overdue:
            await self.shown.wait()


class Tracer:
    """Notes what was run."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def perform(self, run: Run) -> Settlement:
        self.ran.append(run.claim.field)
        return Settlement(run.claim)


@pytest.fixture
def signs() -> Signs:
    return Signs()


def performing(signs: Signs, run: Run) -> tuple[Tracer, asyncio.Task[None]]:
    passage = Processor(cast("Claims", None), Holdings(), cast("Upkeep", signs), 5)
    trace = Tracer()
    passage.trace = cast("Trace", trace)
    run.runner = task = asyncio.create_task(passage.perform(run))
    return trace, task


def a_run() -> Run:
    return Run(Claim("field", "q", 0, b""), 0.0)


async def test_it_waits_until_it_has_shown_life(signs: Signs) -> None:
    """A message waits for the sign of life, and runs once nobody has taken it."""
    trace, task = performing(signs, a_run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not trace.ran
    signs.overdue = False
    signs.shown.set()
    await asyncio.wait_for(task, 5)
    assert trace.ran == ["field"]


async def test_what_others_have_is_not_run(signs: Signs) -> None:
    """A message found to be somebody else's meanwhile is dropped, and its slot lives on."""
    run = a_run()
    trace, task = performing(signs, run)
    await asyncio.sleep(0)
    stop_run(run, Stop.LOST)
    await asyncio.wait_for(task, 5)
    assert not trace.ran
    assert not task.cancelled()
    assert not task.cancelling()


async def test_what_was_lost_before_its_turn_is_not_run(signs: Signs) -> None:
    """A message lost while it waited for a slot is not started when a slot takes it."""
    run = a_run()
    stop_run(run, Stop.LOST)
    signs.overdue = False
    trace, task = performing(signs, run)
    await asyncio.wait_for(task, 5)
    assert not trace.ran

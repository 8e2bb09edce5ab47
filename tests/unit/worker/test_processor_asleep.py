"""A worker that was asleep starts nothing before it knows what is still its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from crucible.broker.claiming.claims import Claim
from crucible.broker.claiming.settlement import Settlement
from crucible.worker.execution.cancellation import stop_run
from crucible.worker.processor import Processor
from crucible.worker.run import Run, Stop
from crucible.worker.settlement_writer import SettlementWriter
from crucible.worker.unsettled import UnsettledRuns

if TYPE_CHECKING:
    from crucible.broker.claiming.claims import Claims
    from crucible.worker.execution.execute import Execution
    from crucible.worker.liveness.delayed import DelayedMessages
    from crucible.worker.liveness.lease import Lease
    from crucible.worker.settlements import Settlements


class LateLease:
    """A lease that is overdue for as long as the test says."""

    def __init__(self) -> None:
        self.overdue = True
        self.renewed = asyncio.Event()

    async def wait_until_renewed(self) -> None:
        if self.overdue:
            await self.renewed.wait()


class Recording:
    """An execution that notes what was run."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def execute(self, run: Run) -> Settlement:
        self.ran.append(run.claim.field)
        return Settlement(run.claim)


@pytest.fixture
def lease() -> LateLease:
    return LateLease()


def processing(lease: LateLease, run: Run) -> tuple[Recording, asyncio.Task[None]]:
    execution, claims = Recording(), cast("Claims", None)
    processor = Processor(
        cast("Execution", execution),
        cast("Settlements", None),
        SettlementWriter(claims),
        claims,
        cast("Lease", lease),
        cast("DelayedMessages", None),
        UnsettledRuns(),
    )
    run.runner = task = asyncio.create_task(processor.process(run))
    return execution, task


def a_run() -> Run:
    return Run(Claim("field", "q", 0, b""), 0.0)


async def test_it_waits_until_its_lease_is_renewed(lease: LateLease) -> None:
    """A message waits for the renewal, and runs where no other worker has claimed it."""
    execution, task = processing(lease, a_run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not execution.ran
    lease.overdue = False
    lease.renewed.set()
    await asyncio.wait_for(task, 60)
    assert execution.ran == ["field"]


async def test_what_others_have_is_not_run(lease: LateLease) -> None:
    """A message found to be somebody else's meanwhile is dropped, and its slot lives on."""
    run = a_run()
    execution, task = processing(lease, run)
    await asyncio.sleep(0)
    stop_run(run, Stop.LOST)
    await asyncio.wait_for(task, 60)
    assert not execution.ran
    assert not task.cancelled()
    assert not task.cancelling()


async def test_what_was_lost_before_its_turn_is_not_run(lease: LateLease) -> None:
    """A message lost while it waited for a slot is not started when a slot takes it."""
    run = a_run()
    stop_run(run, Stop.LOST)
    lease.overdue = False
    execution, task = processing(lease, run)
    await asyncio.wait_for(task, 60)
    assert not execution.ran

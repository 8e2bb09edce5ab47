"""Every run is settled: when its slot ends, when it is stopped on its way, when it is delayed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from support.loop_turns import eventually

from crucible.broker.claiming.claims import Claim, Settlement
from crucible.worker.admission import NotDue
from crucible.worker.execution.cancellation import stop_run
from crucible.worker.processor import Processor
from crucible.worker.run import Run, Stop
from crucible.worker.settlement_writer import SettlementWriter
from crucible.worker.unsettled import UnsettledRuns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.claiming.claims import Claims
    from crucible.worker.execution.execute import Execution
    from crucible.worker.liveness.delayed import DelayedMessages
    from crucible.worker.liveness.lease import Lease
    from crucible.worker.settlements import Settlements


class Current:
    """A lease that is not overdue; expects whatever is delayed."""

    overdue = False

    def __init__(self) -> None:
        self.expected: list[float] = []

    def expect(self, eta: float) -> None:
        self.expected.append(eta)


class Parking:
    """Claims that take as long to be parked as the test says."""

    def __init__(self) -> None:
        self.parked: list[Claim] = []
        self.go_on = asyncio.Event()
        self.due: list[Claim] = []

    async def delay(self, claims: Sequence[tuple[Claim, float]]) -> list[Claim]:
        self.parked += [claim for claim, _ in claims]
        await self.go_on.wait()
        return self.due


class Raising:
    """An execution that raises, and the settlements of its faults.

    ``stop`` is what the run is stopped for meanwhile.
    """

    def __init__(self, *raised: BaseException, stop: Stop | None = None) -> None:
        self._raised = list(raised)
        self._stop = stop
        self.runners: list[object] = []

    async def execute(self, run: Run) -> Settlement:
        run.stop = self._stop
        self.runners.append(run.runner)
        if self._raised:
            raise self._raised.pop(0)
        return Settlement(run.claim)

    def worker_fault(self, run: Run) -> Settlement:
        return Settlement(run.claim)


class Rig:
    """A processor around an execution, with one run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, raising: Raising) -> None:
        self.unsettled, self.parking, self.current = UnsettledRuns(), Parking(), Current()
        self.settled: list[Claim | None] = []
        claims = cast("Claims", self.parking)
        writer = SettlementWriter(claims)
        monkeypatch.setattr(writer, "put", lambda it: self.settled.append(it.claim))
        self.processor = Processor(
            cast("Execution", raising),
            cast("Settlements", raising),
            writer,
            claims,
            cast("Lease", self.current),
            cast("DelayedMessages", self.current),
            self.unsettled,
        )
        (self.run,) = self.unsettled.add([Claim("field", "q", 0, b"")])


@pytest.mark.parametrize("raised", [asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize(
    ("stop", "settlements"),
    [(None, 1), (Stop.TERMINATED, 1), (Stop.CLOSED, 0), (Stop.ABANDONED, 0)],
)
async def test_a_slot_that_ends_leaves_its_run_to_others(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, stop: Stop | None, settlements: int
) -> None:
    """Its message is delivered again, unless the worker closes or another run has taken over."""
    rig = Rig(monkeypatch, Raising(raised, stop=stop))
    with pytest.raises(type(raised)):
        await rig.processor.process(rig.run)
    assert rig.settled == [rig.run.claim] * settlements


async def test_nothing_stops_a_message_that_is_being_delayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not run, so terminate says no; once delayed, this worker holds it no longer."""
    rig = Rig(monkeypatch, Raising(NotDue(1e9)))
    rig.run.runner = task = asyncio.create_task(rig.processor.process(rig.run))
    await eventually(lambda: bool(rig.parking.parked))
    assert not stop_run(rig.run, Stop.TERMINATED)
    rig.parking.go_on.set()
    await asyncio.wait_for(task, 60)
    assert not list(rig.unsettled)
    assert not rig.settled
    assert rig.run.stop is None
    assert rig.current.expected == [1e9]


async def test_a_message_that_is_due_by_the_servers_clock_runs_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was not delayed because it is due is executed again, and can be stopped again."""
    raising = Raising(NotDue(1.0))
    rig = Rig(monkeypatch, raising)
    rig.parking.go_on.set()
    rig.parking.due = [rig.run.claim]
    rig.run.runner = task = asyncio.create_task(rig.processor.process(rig.run))
    await asyncio.wait_for(task, 60)
    assert raising.runners == [task, task]
    assert rig.settled == [rig.run.claim]
    assert not rig.current.expected


async def test_what_cannot_be_delayed_is_delivered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that refuses a delayed message leaves no claim behind in this worker."""
    rig = Rig(monkeypatch, Raising(NotDue(1e9)))

    async def refused(*_: Any) -> list[Claim]:
        raise RuntimeError("refused")

    monkeypatch.setattr(rig.parking, "delay", refused)
    await rig.processor.process(rig.run)
    assert rig.settled == [rig.run.claim]

"""No run is left in a worker's books when its slot goes, or when it is stopped on its way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from support.loop_turns import eventually

from crucible.broker.claiming.claims import Claim
from crucible.broker.claiming.settlement import Settlement
from crucible.worker.consumer import Holdings
from crucible.worker.execution.cancellation import stop_run
from crucible.worker.execution.execute import Delayed
from crucible.worker.hooks import Run, Stop
from crucible.worker.processor import Processor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.claiming.claims import Claims
    from crucible.worker.execution.execute import Trace
    from crucible.worker.upkeep import Upkeep


class Upkept:
    """Nothing is overdue; notes what is due when."""

    overdue = False

    def __init__(self) -> None:
        self.due: list[float] = []

    def expect_due(self, eta: float) -> None:
        self.due.append(eta)


class Parking:
    """Claims that take as long to be parked as the test says."""

    def __init__(self) -> None:
        self.parked: list[Claim] = []
        self.go_on = asyncio.Event()

    async def delay(self, claims: Sequence[tuple[Claim, float]]) -> list[Claim]:
        self.parked += [claim for claim, _ in claims]
        await self.go_on.wait()
        return []


class Raising:
    """A trace that raises; its faults are endings as they are."""

    hooks = None

    def __init__(self, raised: BaseException) -> None:
        self.ends = self
        self._raised = raised

    async def perform(self, run: Run) -> Settlement:
        raise self._raised

    def fault(self, run: Run, max_deliveries: int) -> Settlement:
        return Settlement(run.claim)


def prepared(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> tuple[Processor, Run, Holdings, Parking, list[Settlement]]:
    held, parking, ended = Holdings(), Parking(), list[Settlement]()
    passage = Processor(cast("Claims", parking), held, cast("Upkeep", Upkept()), 5)
    passage.trace = cast("Trace", Raising(raised))
    monkeypatch.setattr(passage.finisher, "put", ended.append)
    (run,) = held.take([Claim("field", "q", 0, b"")])
    return passage, run, held, parking, ended


@pytest.mark.parametrize("raised", [asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize(
    ("stop", "endings"), [(None, 1), (Stop.TERMINATED, 1), (Stop.CLOSED, 0), (Stop.LET_GO, 0)]
)
async def test_a_slot_that_goes_leaves_its_run_to_others(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, stop: Stop | None, endings: int
) -> None:
    """Its message is delivered again, unless the worker closes or another run has taken over."""

    class Stopping(Raising):
        async def perform(self, run: Run) -> Settlement:
            run.stop = stop
            return await super().perform(run)

    passage, run, _, _, ended = prepared(monkeypatch, raised)
    passage.trace = cast("Trace", Stopping(raised))
    with pytest.raises(type(raised)):
        await passage.perform(run)
    assert [ending.claim for ending in ended] == [run.claim] * endings


async def test_nothing_stops_a_message_that_is_being_parked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not run, so terminate says no; once parked it is in nobody's books."""
    passage, run, held, parking, ended = prepared(monkeypatch, Delayed(1e9))
    run.runner = task = asyncio.create_task(passage.perform(run))
    await eventually(lambda: bool(parking.parked))
    assert not stop_run(run, Stop.TERMINATED)
    parking.go_on.set()
    await asyncio.wait_for(task, 5)
    assert not list(held)
    assert not ended
    assert run.stop is None


async def test_what_cannot_be_parked_is_delivered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that refuses a delayed message leaves no claim behind in this worker."""
    passage, run, _, parking, ended = prepared(monkeypatch, Delayed(1e9))

    async def refused(*_: Any) -> list[Claim]:
        raise RuntimeError("refused")

    monkeypatch.setattr(parking, "delay", refused)
    await passage.perform(run)
    assert [ending.claim for ending in ended] == [run.claim]

"""Slots run as many messages at once as there are, in the order they were claimed."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support.loop_turns import eventually

from crucible.broker.claiming.claims import Claim
from crucible.worker import slots as slots_module
from crucible.worker.execution.cancellation import stop_run
from crucible.worker.run import Run, Stop
from crucible.worker.slots import Slots


def runs(count: int) -> list[Run]:
    return [Run(Claim(f"f{number}", "q", 0, b""), 0.0) for number in range(count)]


class Gate:
    """Messages that end when they are told to."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.open = asyncio.Event()

    async def process(self, run: Run) -> None:
        self.started.append(run.claim.field)
        await self.open.wait()


async def test_as_many_at_once_as_slots_in_order() -> None:
    """Two slots start the first two; the rest waits and can be taken back in order."""
    gate = Gate()
    slots = Slots(2)
    async with slots.serving(gate.process):
        slots.offer(runs(5))
        await eventually(lambda: len(gate.started) == 2)
        assert gate.started == ["f0", "f1"]
        assert slots.room == 0
        assert [run.claim.field for run in slots.take_waiting()] == ["f2", "f3", "f4"]
        gate.open.set()
        await slots.wait_until_idle()
        assert slots.room >= 2


async def test_growing_and_shrinking_while_running() -> None:
    """More slots start more at once; fewer let running ones end and start no more than allowed."""
    gate = Gate()
    slots = Slots(1)
    async with slots.serving(gate.process):
        slots.offer(runs(6))
        await eventually(lambda: len(gate.started) == 1)
        slots.resize(4)
        await eventually(lambda: len(gate.started) == 4)
        slots.resize(1)
        gate.open.set()
        await slots.wait_until_idle()
        assert len(gate.started) == 6
        gate.open.clear()
        slots.offer(runs(3))
        await eventually(lambda: len(gate.started) == 7)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(slots.running) == 1
        gate.open.set()
        await slots.wait_until_idle()


async def test_a_slot_that_fails_is_replaced() -> None:
    """An error that reaches a slot ends that slot only; the others' messages run."""
    done: list[str] = []

    async def process(run: Run) -> None:
        if run.claim.field == "f0":
            raise RuntimeError("a fault of ours")
        done.append(run.claim.field)

    slots = Slots(1)
    async with slots.serving(process):
        slots.offer(runs(3))
        await eventually(lambda: done == ["f1", "f2"])
        assert not slots.busy


async def test_messages_that_never_wait_leave_the_loop_to_others() -> None:
    """A long row of instant messages does not hold up the rest of the process."""
    ticks = 0

    async def process(run: Run) -> None:
        return None

    async def ticking() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    slots = Slots(1)
    async with slots.serving(process):
        ticker = asyncio.create_task(ticking())
        slots.offer(runs(50_000))
        await slots.wait_until_idle()
        ticker.cancel()
    assert ticks > 3


async def test_instant_messages_are_claimed_ahead_slow_ones_are_not() -> None:
    """Room beyond the free slots is given only to what is over at once."""

    async def process(run: Run) -> None:
        return None

    slots = Slots(2, lambda: 1.0)  # a clock that stands: all of them end at once
    async with slots.serving(process):
        assert slots.room == 2
        slots.offer(runs(2000))
        await slots.wait_until_idle()
        assert slots.room == 2
        slots.backlog = True
        assert slots.room > 50


async def test_a_slot_that_goes_with_its_message_is_replaced() -> None:
    """A message stopped outside its task takes its slot along; another one takes the place."""
    gate = Gate()
    slots = Slots(1)
    async with slots.serving(gate.process):
        stopped, following = runs(2)
        slots.offer([stopped])
        await eventually(lambda: bool(gate.started))
        stop_run(stopped, Stop.LOST)
        slots.offer([following])
        await eventually(lambda: gate.started == ["f0", "f1"])
        gate.open.set()
        await slots.wait_until_idle()


async def test_leaving_waits_for_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that swallows every cancellation does not keep the worker."""
    monkeypatch.setattr(slots_module, "_CANCEL_S", 0.01)
    end = asyncio.Event()

    async def process(run: Run) -> None:
        while not end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await end.wait()

    slots = Slots(1)
    async with slots.serving(process):
        slots.offer(runs(1))
        await eventually(lambda: len(slots.running) == 1)
        (run,) = slots.running
    assert run.stop is Stop.CLOSED
    assert slots.running == {run}
    end.set()
    await eventually(lambda: not slots.running)

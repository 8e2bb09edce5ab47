"""States in no hurry: written with what comes soon after them, or alone a little later."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest
from support.loop_turns import eventually, turns

from crucible.broker.claiming.claims import Claim, Settlement
from crucible.errors import BrokerUnavailable
from crucible.worker import settlement_writer
from crucible.worker.settlement_writer import SettlementWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from crucible.broker.claiming.claims import Claims

STATE = Settlement(None, "key", b"STARTED")
END = Settlement(Claim("field", "q", 0, b""), "key", b"SUCCESS")


class Settled:
    """Claims that note each call; ``errors`` are raised first."""

    def __init__(self, *errors: Exception) -> None:
        self.calls: list[list[Settlement]] = []
        self._errors = list(errors)

    async def settle(self, settlements: Sequence[Settlement]) -> int:
        if self._errors:
            raise self._errors.pop(0)
        self.calls.append(list(settlements))
        return len(settlements)


@asynccontextmanager
async def writing(settled: Settled) -> AsyncIterator[SettlementWriter]:
    writer = SettlementWriter(cast("Claims", settled))
    task = asyncio.create_task(writer.run(lambda: None))
    await turns()
    try:
        yield writer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def long_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for others waits for ever."""
    monkeypatch.setattr(settlement_writer, "_PATIENCE_S", 3600.0)


@pytest.mark.usefixtures("long_patience")
async def test_a_state_goes_with_the_end_in_one_call_and_before_it() -> None:
    """A round trip of its own would be a good part of a short task's time."""
    settled = Settled()
    async with writing(settled) as writer:
        writer.put_patient(STATE)
        await asyncio.sleep(0)
        writer.put(END)
        async with asyncio.timeout(60):
            await writer.flushed()
    assert settled.calls == [[STATE, END]]


async def test_a_state_is_written_although_nothing_follows() -> None:
    """A task that runs for long is shown as running."""
    settled = Settled()
    async with writing(settled) as writer:
        writer.put_patient(STATE)
        async with asyncio.timeout(60):
            await writer.flushed()
        writer.put_patient(STATE)
        async with asyncio.timeout(60):
            await writer.flushed()
    assert settled.calls == [[STATE], [STATE]]


@pytest.mark.usefixtures("long_patience")
async def test_what_waits_is_written_when_the_writer_runs_again() -> None:
    """A supervisor starts it anew after a fault; nothing waits for another push then."""
    settled = Settled()
    async with writing(settled) as writer:
        pass
    writer.put_patient(STATE)
    async with asyncio.timeout(60):
        running = asyncio.create_task(writer.run(lambda: None))
        await writer.flushed()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert settled.calls == [[STATE]]


@pytest.mark.usefixtures("long_patience")
async def test_a_state_that_comes_during_a_write_waits_for_the_next() -> None:
    """It does not start a flush of its own, and none is lost by a server that was away."""
    settled = Settled(BrokerUnavailable("away"))
    async with writing(settled) as writer:
        writer.put(END)
        await asyncio.sleep(0)
        writer.put_patient(STATE)
        await eventually(lambda: bool(settled.calls), 60)
        assert settled.calls == [[END]]
        writer.put(END)
        async with asyncio.timeout(60):
            await writer.flushed()
    assert settled.calls == [[END], [STATE, END]]

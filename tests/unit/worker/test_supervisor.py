"""Loops are kept alive, stalled ones restarted, and hopeless ones reported."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from crucible.broker.outage import Outage
from crucible.errors import BrokerUnavailable
from crucible.worker import supervisor as module
from crucible.worker.supervisor import Supervisor, WorkerFailed

Beat = Callable[[], None]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES_S", (0.0,))


async def test_a_loop_that_fails_or_ends_runs_again() -> None:
    """Errors and returns alike start the loop anew; leaving cancels it."""
    starts = 0
    running = asyncio.Event()
    cancelled = False

    async def loop(beat: Beat) -> None:
        nonlocal starts, cancelled
        starts += 1
        if starts == 1:
            raise RuntimeError("a fault")
        if starts == 2:
            return
        running.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled = True
            raise

    async with Supervisor(Outage()) as supervisor, asyncio.timeout(60):
        supervisor.start("loop", loop, stall_s=None)
        await running.wait()
        assert supervisor.restarts == {"loop": 2}
    assert cancelled


async def test_a_loop_without_progress_is_started_anew() -> None:
    """The watchdog cancels a loop that has not beaten for its time; its keeper runs it again."""
    starts = 0
    again = asyncio.Event()

    async def loop(beat: Beat) -> None:
        nonlocal starts
        starts += 1
        if starts == 2:
            again.set()
        await asyncio.sleep(60)

    async with Supervisor(Outage()) as supervisor, asyncio.timeout(60):
        supervisor.start("stuck", loop, stall_s=0.1)
        await again.wait()


async def test_a_hopeless_loop_ends_the_worker_but_an_absent_server_does_not() -> None:
    """Ten failures in a row are reported; BrokerUnavailable is waited out for ever."""
    waited = 0
    enough = asyncio.Event()

    async def patient(beat: Beat) -> None:
        nonlocal waited
        waited += 1
        if waited == 50:
            enough.set()
        raise BrokerUnavailable("away")

    async def hopeless(beat: Beat) -> None:
        raise RuntimeError("a fault")

    async with Supervisor(Outage()) as supervisor, asyncio.timeout(60):
        supervisor.start("patient", patient, stall_s=None)
        await enough.wait()
        supervisor.start("hopeless", hopeless, stall_s=None)
        with pytest.raises(WorkerFailed, match="hopeless"):
            await supervisor.failed()


async def test_a_swallowed_cancellation_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a loop awaits may lose a cancellation; it is cancelled again."""
    monkeypatch.setattr(module, "_CANCEL_S", 0.01)
    lost = asyncio.Event()

    async def loop(beat: Beat) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.set()
        await asyncio.Event().wait()

    async with Supervisor(Outage()) as supervisor:
        supervisor.start("deaf", loop, stall_s=None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert lost.is_set()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

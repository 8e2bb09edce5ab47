"""Many coroutines in one slot: nothing of one reaches the next."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from crucible.broker.claiming.claims import Claim
from crucible.worker.exceptions import SoftTimeLimitExceeded
from crucible.worker.execution.isolate import isolate
from crucible.worker.run import Run

marker: ContextVar[str] = ContextVar("marker", default="")


def run() -> Run:
    return Run(Claim("f", "q", 0, b""), 0.0, runner=asyncio.current_task())


async def test_context_variables_end_with_their_coroutine() -> None:
    """What one coroutine sets is kept across its awaits and unseen by the next."""

    async def sets(value: str) -> str:
        before = marker.get()
        marker.set(value)
        await asyncio.sleep(0)
        return before + marker.get()

    assert await isolate(sets("a"), run()) == "a"
    assert await isolate(sets("b"), run()) == "b"
    assert marker.get() == ""


async def test_errors_pass_both_ways() -> None:
    """An awaited future's error arrives inside, and what the coroutine raises arrives outside."""

    async def awaits(future: asyncio.Future[None]) -> str:
        with pytest.raises(ValueError, match="inside"):
            await future
        raise KeyError("outside")

    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError("inside"))
    with pytest.raises(KeyError, match="outside"):
        await isolate(awaits(future), run())


async def test_soft_limit_arrives_where_it_waits_and_only_once() -> None:
    """The cancellation of a soft limit is seen as its exception; the next await works again."""

    async def waits() -> str:
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0)
            return "told"
        return "slept"

    async def slot() -> str:
        current = run()
        loop = asyncio.get_running_loop()
        current.soft_limit = True
        assert current.runner is not None
        loop.call_soon(current.runner.cancel)
        result: str = await isolate(waits(), current)
        assert current.runner.cancelling() == 0
        return result

    assert await asyncio.create_task(slot()) == "told"


async def test_a_cancellation_from_outside_stays_one() -> None:
    """Without a soft limit a cancelled slot ends as cancelled."""

    async def waits() -> None:
        await asyncio.sleep(60)

    async def slot() -> None:
        await isolate(waits(), run())

    task = asyncio.create_task(slot())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

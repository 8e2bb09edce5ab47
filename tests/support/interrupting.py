"""Cancelling runs of programs, and their outcomes so far."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crucible.executor.interrupted import Interrupted
from crucible.executor.live import listening

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from crucible.executor import Executor
    from crucible.models import Outcome, Program


#: Seconds for a program to start and say something.
SPEAKS_S = 90.0


async def cut_short(executor: Executor, program: Program) -> Outcome:
    """The outcome so far of a cancelled run. Raises AssertionError if the program had finished."""
    try:
        outcome = await executor.run(program)
    except Interrupted as cut:
        return cut.outcome
    raise AssertionError(f"it finished: {outcome}")


async def once_it_speaks(run: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A run of a program, under way; returns when the first of its output has arrived.

    Raises:
        AssertionError: it ended before.
    """
    spoken = asyncio.Event()
    with listening(lambda _: spoken.set()):
        running = asyncio.create_task(run)
    waiting = asyncio.create_task(spoken.wait())
    async with asyncio.timeout(SPEAKS_S):
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    assert spoken.is_set(), await running
    return running

"""Cancelling runs of programs, and their outcomes so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.executor.interrupted import Interrupted

if TYPE_CHECKING:
    from crucible.executor import Executor
    from crucible.models import Outcome, Program


async def cut_short(executor: Executor, program: Program) -> Outcome:
    """The outcome so far of a cancelled run. Raises AssertionError if the program had finished."""
    try:
        outcome = await executor.run(program)
    except Interrupted as cut:
        return cut.outcome
    raise AssertionError(f"it finished: {outcome}")

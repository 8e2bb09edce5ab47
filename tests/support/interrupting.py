"""Cancelling runs of programs, and what they had come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.executor.interrupted import Interrupted

if TYPE_CHECKING:
    from crucible.executor import Executor
    from crucible.models import Outcome, Program


async def cut_short(executor: Executor, program: Program) -> Outcome:
    """What a program had come to when the run was cancelled. Raises AssertionError if it ended."""
    try:
        outcome = await executor.run(program)
    except Interrupted as cut:
        return cut.outcome
    raise AssertionError(f"it came to its end: {outcome}")

"""Stopping runs from outside: cancelled, again when they do not react, and abandoned at last.

A task may swallow its cancellation, or wait for something that does. It keeps its slot for some
seconds, in which it may clean up, but not for ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crucible.worker.run import Stop

if TYPE_CHECKING:
    from crucible.worker.run import Run

#: Seconds a stopped task is given to clean up before it is cancelled again.
_PATIENCE_S = 5.0
#: How often it is cancelled before it is abandoned.
_CANCELS = 3


def stop_run(run: Run, why: Stop) -> bool:
    """Stop a run from outside; the first reason counts. False when it does not run (any more)."""
    if run.stop is None and (run.runner is not None or why is Stop.LOST):
        run.stop = why
        if run.runner is not None:
            _cancel(run, run.runner, _CANCELS)
    return run.runner is not None


def _cancel(run: Run, runner: asyncio.Task[Any], left: int) -> None:
    if run.runner is not runner:
        return
    if left:
        runner.cancel()
        asyncio.get_running_loop().call_later(_PATIENCE_S, _cancel, run, runner, left - 1)
    elif run.abandon is not None:
        run.abandon(run)


async def clear_cancellation(runner: asyncio.Task[Any]) -> None:
    """Take back every cancellation asked for, so that what the slot runs next meets none."""
    while runner.cancelling():
        runner.uncancel()
    try:
        # One that was not delivered yet would be at the next await: take it here.
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return

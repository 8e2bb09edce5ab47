"""How far a pipeline is, under the id of ``tasks.evaluate_ai_model`` and of each step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crucible.evaluation.view import now_text

if TYPE_CHECKING:
    from crucible.pipelines.record import Order, PipelineStore
    from crucible.worker import TaskContext

#: The first step. Below: percent of the whole at which each step begins, and ends.
WAITING = "waiting for resources"
SHARES = {
    WAITING: (0.0, 1.0),
    "downloading": (1.0, 20.0),
    "safety tests": (20.0, 99.0),
}


def overall(step: str, progress: float) -> float:
    """Percent of the pipeline at a percentage of one of its steps."""
    begins, ends = SHARES[step]
    return round(begins + (ends - begins) * min(100.0, max(0.0, progress)) / 100.0, 2)


class PipelineProgress:
    """Stores what a step does. That of the pipeline never falls: the greatest is kept.

    A step that runs again after a death, or downloads anew, begins at less than it had.

    Args:
        ctx: of the step's task.
        store: keeps the pipeline.
        order: the pipeline.
    """

    def __init__(self, ctx: TaskContext, store: PipelineStore, order: Order) -> None:
        self._ctx = ctx
        self._store = store
        self._order = order
        self._turn = asyncio.Lock()  # what is greater is stored later

    async def note(self, step: str, message: str, progress: float) -> None:
        """Store where the step is, in percent of itself, and where the pipeline is."""
        state = {
            "progress": round(progress, 2),
            "current_step": step,
            "message": message,
            "updated_at": now_text(),
        }
        async with self._turn:
            if self._ctx.id != self._order.task_id:
                await self._ctx.update_state("PROGRESS", state)
            reached = await self._store.reach(self._order.pipeline_id, overall(step, progress))
            if reached is not None:
                await self._ctx.update_state(
                    "PROGRESS", {**state, "progress": reached}, task_id=self._order.task_id
                )

"""Evaluations without containers that end when a test says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crucible.worker import TaskRegistry

if TYPE_CHECKING:
    from crucible.worker import TaskContext


class Held:
    """Tasks of one test.

    Attributes:
        registry: has ``tasks.evaluate_code``, which stands for a program that prints its code, and
            ``demo.steps``, which says how far it is and fails in the end.
        released: lets the programs ``hold``, and ``demo.steps``, go on.
    """

    def __init__(self) -> None:
        self.registry = TaskRegistry()
        self.released = asyncio.Event()
        released = self.released

        @self.registry.task("tasks.evaluate_code", track_started=True)
        async def evaluate(
            ctx: TaskContext, eval_id: str, code: str, language: str, **_: Any
        ) -> Any:
            if code == "hold":
                await released.wait()
            return {"verdict": "ok", "status": "completed", "eval_id": eval_id, "output": code}

        @self.registry.task("demo.steps")
        async def steps(ctx: TaskContext) -> str:
            said = {"done": 1, "total": 4, "current_step": "loading", "message": "one of four"}
            await ctx.update_state("PROGRESS", said)
            await released.wait()
            raise RuntimeError("no good")

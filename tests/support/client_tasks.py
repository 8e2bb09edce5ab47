"""Evaluations without containers: ``crucible worker --tasks support.client_tasks``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crucible.worker.registry import TaskRegistry

if TYPE_CHECKING:
    from crucible.worker.context import TaskContext

registry = TaskRegistry()


@registry.task("tasks.evaluate_code", track_started=True)
async def evaluate(ctx: TaskContext, eval_id: str, code: str, language: str, **options: Any) -> Any:
    """Stands for a program that prints its code; a number of seconds is slept first."""
    if code.startswith("sleep "):
        await asyncio.sleep(float(code.removeprefix("sleep ")))
    failed = code == "fail"
    return {
        "eval_id": eval_id,
        "status": "completed",
        "verdict": "nonzero_exit" if failed else "ok",
        "exit_code": 1 if failed else 0,
        "output": code,
    }

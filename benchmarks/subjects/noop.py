"""The task of the worker scenarios, for Crucible: returns its argument."""

from __future__ import annotations

from typing import Any

from crucible.worker import TaskRegistry

registry = TaskRegistry()


@registry.task("bench.noop")
async def noop(ctx: Any, value: int) -> int:
    """Nothing."""
    return value

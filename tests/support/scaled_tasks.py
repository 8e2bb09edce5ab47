"""A task that leaves a line in a file for each of its runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from crucible.worker.registry import TaskRegistry

if TYPE_CHECKING:
    from crucible.worker.context import TaskContext

registry = TaskRegistry()


@registry.task("scaled.note")
async def note(ctx: TaskContext, path: str, seconds: float) -> int:
    """Take a while, then append one line; returns the worker's process id."""
    await asyncio.sleep(seconds)
    # Lines of this length are appended whole.
    with Path(path).open("a") as file:
        file.write(f"{ctx.id}\n")
    return os.getpid()

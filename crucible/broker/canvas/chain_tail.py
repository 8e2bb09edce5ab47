"""The remaining steps of a chain, which fail with a step that failed."""

from __future__ import annotations

from collections import deque
from typing import Any

from crucible.broker.canvas.signature import as_signature


def tail_task_ids(remaining: Any) -> list[str]:
    """Ids of the steps that will not run, under which the failure is stored too.

    Args:
        remaining: ``chain`` of the failed step's message; what is not a signature is skipped.
    """
    ids: list[str] = []
    waiting = deque(remaining if isinstance(remaining, list) else ())
    while waiting:
        try:
            step = as_signature(waiting.popleft())
        except ValueError:
            continue
        task_id = step.options.get("task_id")
        if isinstance(task_id, str):
            ids.append(task_id)
        if step.kind == "chord":
            # What later steps and clients wait for is the body's result.
            waiting.append(step.body)
    return ids

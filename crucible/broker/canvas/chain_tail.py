"""The rest of a chain: whose results a step that failed has failed as well."""

from __future__ import annotations

from collections import deque
from typing import Any

from crucible.broker.canvas.signature import as_signature


def results_of_rest(rest: Any) -> list[str]:
    """Ids under which the failure of a step is stored for the steps that will not run.

    Args:
        rest: ``chain`` of the failed step's message; what is no signature in it is passed over.
    """
    ids: list[str] = []
    waiting = deque(rest if isinstance(rest, list) else ())
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

"""Commands about kinds of tasks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from crucible.worker.rate_limits import per_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.worker.control.controlled import ControlledWorker
    from crucible.worker.task import Task

logger = logging.getLogger(__name__)

_DEFAULT_ITEMS = ("exchange", "routing_key", "rate_limit")


def registered(
    worker: ControlledWorker,
    taskinfoitems: Sequence[Any] | None = None,
    builtins: bool = False,
    **_: Any,
) -> list[str]:
    """The tasks, with the attributes asked for where they have them."""
    items = [
        item
        for item in taskinfoitems or _DEFAULT_ITEMS
        if isinstance(item, str) and not item.startswith("_")
    ]
    tasks = sorted(worker.registry, key=lambda task: task.name)
    return [
        _described(worker, task, items)
        for task in tasks
        if builtins or not task.name.startswith("celery.")
    ]


def _described(worker: ControlledWorker, task: Task, items: Sequence[str]) -> str:
    values = {item: _attribute(worker, task, item) for item in items}
    shown = [f"{item}={value}" for item, value in values.items() if value is not None]
    return f"{task.name} [{' '.join(shown)}]" if shown else task.name


def _attribute(worker: ControlledWorker, task: Task, item: str) -> Any:
    if item == "rate_limit":
        return worker.rates.rate_of(task.name)
    hard, soft = worker.time_limits.get(task.name, (task.time_limit, task.soft_time_limit))
    if item in ("time_limit", "soft_time_limit"):
        return hard if item == "time_limit" else soft
    return getattr(task, item, None)


def rate_limit(
    worker: ControlledWorker, task_name: str, rate_limit: Any, **_: Any
) -> dict[str, str]:
    """Start at most so many of a task in a time, such as ``10/m``, in this worker; 0 is any."""
    try:
        per_second(rate_limit)
    except ValueError as error:
        return {"error": f"Invalid rate limit string: {error!r}"}
    if task_name not in worker.registry:
        return {"error": "unknown task"}
    worker.rates.set(task_name, rate_limit)
    logger.info("rate limit of %s is now %s", task_name, rate_limit or "off")
    if not rate_limit:
        return {"ok": "rate limit disabled successfully"}
    return {"ok": "new rate limit set successfully"}


def time_limit(
    worker: ControlledWorker,
    task_name: str | None = None,
    hard: float | None = None,
    soft: float | None = None,
    **_: Any,
) -> dict[str, str]:
    """Change how long a task may run, for those that start from now on."""
    if task_name is None or task_name not in worker.registry:
        return {"error": "unknown task"}
    worker.time_limits[task_name] = (_seconds(hard), _seconds(soft))
    logger.info("time limits of %s are now hard %s, soft %s", task_name, hard, soft)
    return {"ok": "time limits set successfully"}


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)

"""Checking tasks when they are defined, so that a mistake is an error there and not in a worker."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

from crucible.worker.rate_limits import per_second

if TYPE_CHECKING:
    from crucible.worker.task import Task

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
#: Options that are no less than zero.
_NOT_NEGATIVE = ("max_retries", "retry_delay_s", "time_limit", "soft_time_limit")


def check(task: Task) -> None:
    """Refuse a task that could not be run as it is defined.

    Raises:
        TypeError: its function takes no context.
        ValueError: a limit is none, is negative, or contradicts another.
    """
    _check_function(task)
    for option in _NOT_NEGATIVE:
        value = getattr(task, option)
        if value is not None and not (0 <= value < math.inf):
            raise ValueError(f"task {task.name!r}: {option} is a number from 0 on, not {value!r}")
    if task.time_limit and task.soft_time_limit and task.soft_time_limit > task.time_limit:
        raise ValueError(
            f"task {task.name!r}: its soft_time_limit of {task.soft_time_limit:g} s comes after "
            f"its time_limit of {task.time_limit:g} s"
        )
    _check_rate(task)


def _check_function(task: Task) -> None:
    try:
        parameters = inspect.signature(task.function).parameters.values()
    except ValueError:  # some functions in C have none that can be looked at
        return
    if not any(parameter.kind in _POSITIONAL for parameter in parameters):
        raise TypeError(
            f"task {task.name!r}: its function takes the context as its first parameter, "
            "as in def task(ctx, …)"
        )


def _check_rate(task: Task) -> None:
    try:
        rate = per_second(task.rate_limit)
        if not 0 <= rate < math.inf:
            raise ValueError
    except (ValueError, KeyError):
        raise ValueError(
            f"task {task.name!r}: rate_limit is like '10/s', '5/m' or '100/h', "
            f"not {task.rate_limit!r}"
        ) from None

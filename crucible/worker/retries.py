"""What ``ctx.retry`` returns, for async and for stock workers alike.

Source: celery 5.7 ``app/task.py`` ``Task.retry``.
"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from crucible.broker.wire.jsontypes import dumps
from crucible.broker.wire.retry import RetryOptions
from crucible.worker.exceptions import MaxRetriesExceeded, Retry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crucible.worker.task import Task


class RetryArguments(TypedDict, total=False):
    """What ``ctx.retry`` takes beside exception, countdown and limit, named as in stock.

    Each is for the next try and those after it; None leaves it as it is.

    Attributes:
        eta: when the next try is due, in the place of a countdown.
        args: positional arguments.
        kwargs: keyword arguments.
        expires: seconds until the task expires, or when it does.
        time_limit: hard limit in seconds.
        soft_time_limit: soft limit in seconds.
        queue: queue the message goes to.
        shadow: the name that events and logs show.
        headers: headers to add to the message.
    """

    eta: datetime | None
    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    expires: float | datetime | None
    time_limit: float | None
    soft_time_limit: float | None
    queue: str | None
    shadow: str | None
    headers: Mapping[str, Any] | None


#: The names of these.
RETRY_ARGUMENTS = frozenset(RetryArguments.__annotations__)
_NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, _NAMED)


class RetryingRun(Protocol):
    """What is looked at of a run that asks for another try."""

    id: str
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    retries: int


def retry_of(
    ctx: RetryingRun,
    task: Task,
    exc: BaseException | None,
    countdown: float | None,
    max_retries: int | None,
    options: RetryArguments,
) -> BaseException:
    """The exception that asks for the next try, or the one to fail with when none is left.

    Args:
        ctx: the run that asks.
        task: its task.
        exc: what went wrong.
        countdown: seconds until the next try; None is the task's own delay.
        eta: when the next try is due, in the place of ``countdown``.
        max_retries: tries after the first; None is the task's own number.
        options: what else the next try has of its own.

    Raises:
        OverflowError: the countdown ends after the year 9999.
        TypeError: an option is not known, or of a kind that JSON cannot carry.
        ValueError: an option is circular.
    """
    unknown = options.keys() - RETRY_ARGUMENTS
    if unknown:
        raise TypeError(f"retry() has no option {min(unknown)!r}")
    given: dict[str, Any] = dict(options)
    eta, expires = given.pop("eta", None), given.pop("expires", None)
    args, kwargs = _next_arguments(ctx, task, given.pop("args", None), given.pop("kwargs", None))
    limit = task.max_retries if max_retries is None else max_retries
    if limit is not None and ctx.retries >= limit:
        shown = ctx.args if args is None else args, ctx.kwargs if kwargs is None else kwargs
        return exc or MaxRetriesExceeded(
            f"Can't retry {ctx.name}[{ctx.id}] args:{shown[0]} kwargs:{shown[1]}"
        )
    # What cannot be written raises here, in the task, not once the task has ended.
    dumps([args, kwargs, given])
    now = datetime.now(UTC)
    changed = RetryOptions(args=args, kwargs=kwargs, expires=_moment(expires, now), **given)
    if eta is not None:
        return Retry(exc=exc, eta=_in_utc(eta), options=changed)
    delay_s = max(0.0, task.retry_delay_s if countdown is None else countdown)
    _ = now + timedelta(seconds=delay_s)
    return Retry(delay_s, exc, options=changed)


def _moment(when: float | datetime | None, now: datetime) -> datetime | None:
    if when is None or isinstance(when, datetime):
        return None if when is None else _in_utc(when)
    return now + timedelta(seconds=when)


def _in_utc(when: datetime) -> datetime:
    """A time without a zone is UTC, as Celery's default has it."""
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _next_arguments(
    ctx: RetryingRun, task: Task, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[Sequence[Any] | None, Mapping[str, Any] | None]:
    """The arguments of the next try; None where they stay as they are.

    A parameter that is given anew one way may have come the other way: it is not passed twice.
    """
    if args is not None and kwargs is None and ctx.kwargs:
        return args, _without(_parameters(task), args, ctx.kwargs)
    if kwargs is not None and args is None and ctx.args:
        return _rebound(task, ctx.args, kwargs)
    return args, kwargs


def _without(
    parameters: Sequence[inspect.Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """``kwargs`` but for what ``args`` pass."""
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    passed = {parameter.name for parameter in positional[: len(args)] if parameter.kind is _NAMED}
    return {name: value for name, value in kwargs.items() if name not in passed}


def _rebound(
    task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any] | None, Mapping[str, Any]]:
    """``args`` with the values that ``kwargs`` name anew in their places, and the other kwargs."""
    parameters = _parameters(task)
    kinds = {parameter.name: parameter.kind for parameter in parameters}
    try:
        bound = inspect.Signature(parameters).bind_partial(*args)
    except TypeError:
        return None, kwargs
    rest = dict(kwargs)
    for name in [name for name in kwargs if name in bound.arguments]:
        if kinds[name] is _NAMED:
            bound.arguments[name] = rest.pop(name)
    return bound.args, {**bound.kwargs, **rest}


def _parameters(task: Task) -> list[inspect.Parameter]:
    """The parameters of a task's function after its context; none where they cannot be read."""
    try:
        parameters = list(inspect.signature(task.function).parameters.values())
    except (TypeError, ValueError):  # some functions in C
        return []
    takes_context_by_name = bool(parameters) and parameters[0].kind in _POSITIONAL
    return parameters[1:] if takes_context_by_name else parameters

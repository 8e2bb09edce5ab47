"""Tasks that are tried again when their functions raise certain exceptions.

Source: celery 5.7 ``app/autoretry.py`` and ``utils/time.py``
``get_exponential_backoff_interval``.
"""

from __future__ import annotations

import functools
import inspect
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from crucible.worker.exceptions import Ignore, Retry
from crucible.worker.retries import RETRY_ARGUMENTS

if TYPE_CHECKING:
    from crucible.worker.context import TaskContext
    from crucible.worker.task import TaskFunction

#: What ``ctx.retry`` takes, but for the exception.
_RETRY_ARGUMENTS = RETRY_ARGUMENTS | {"countdown", "max_retries"}
#: Exponents beyond this make no difference to any delay that can be waited for.
_MAX_EXPONENT = 63


class AutoRetryOptions(TypedDict, total=False):
    """What ``TaskRegistry.task`` takes of these, under stock's names; see ``AutoRetry``."""

    autoretry_for: Iterable[type[BaseException]]
    dont_autoretry_for: Iterable[type[BaseException]]
    retry_kwargs: Mapping[str, Any]
    retry_backoff: float
    retry_backoff_max: int
    retry_jitter: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoRetry:
    """Which exceptions have a task tried again, and when.

    Attributes:
        autoretry_for: the exceptions.
        dont_autoretry_for: those among them that fail the task at once.
        retry_kwargs: arguments of ``ctx.retry``, such as ``max_retries`` and ``countdown``.
        retry_backoff: seconds until the second try, doubled with each; True is 1, 0 or False leaves
            the delay to ``retry_kwargs`` and to the task. Whole seconds, from 1 on, as in Celery.
        retry_backoff_max: seconds between tries at most.
        retry_jitter: wait any whole number of seconds up to the delay instead.
    """

    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = field(default_factory=dict)
    retry_backoff: float = False
    retry_backoff_max: int = 600
    retry_jitter: bool = True

    @classmethod
    def of(cls, task_name: str, options: AutoRetryOptions) -> AutoRetry:
        """What a task's definition asks for.

        Raises:
            TypeError: an option is not known, or of the wrong type.
            ValueError: a number is negative, or no number.
        """
        given: dict[str, Any] = dict(options)
        unknown = given.keys() - AutoRetryOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"task {task_name!r} has no option {min(unknown)!r}")
        for name in ("autoretry_for", "dont_autoretry_for"):
            given[name] = _exceptions(task_name, name, given.get(name, ()))
        for name in ("retry_backoff", "retry_backoff_max"):
            value = given.get(name, 0)
            if not (isinstance(value, (int, float)) and 0 <= value < math.inf):
                raise ValueError(f"task {task_name!r}: {name} is a number from 0 on, not {value!r}")
        arguments = given.setdefault("retry_kwargs", {})
        surplus = set(arguments) - _RETRY_ARGUMENTS
        if surplus:
            raise TypeError(f"task {task_name!r}: retry_kwargs has no {min(surplus)!r}")
        return cls(**given)

    def wrap(self, function: TaskFunction) -> TaskFunction:
        """The function with these retries; itself where there are none."""
        if not self.autoretry_for:
            return function
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run(ctx: TaskContext, *args: Any, **kwargs: Any) -> Any:
                with self._retried(ctx):
                    return await function(ctx, *args, **kwargs)

            return run

        @functools.wraps(function)
        def call(ctx: TaskContext, *args: Any, **kwargs: Any) -> Any:
            with self._retried(ctx):
                return function(ctx, *args, **kwargs)

        return call

    @contextmanager
    def _retried(self, ctx: TaskContext) -> Iterator[None]:
        try:
            yield
        except (Ignore, Retry):
            raise
        except self.dont_autoretry_for:
            raise
        except self.autoretry_for as error:
            outcome = self._retry(ctx, error)
            if outcome is error:
                raise
            raise outcome from error

    def _retry(self, ctx: TaskContext, error: BaseException) -> BaseException:
        arguments = dict(self.retry_kwargs)
        if self.retry_backoff:
            arguments["countdown"] = self.countdown_s(ctx.retries)
        if ctx.retry_limit is not None:  # the function itself asked with a limit, and used it up
            arguments["max_retries"] = ctx.retry_limit
        return ctx.retry(exc=error, **arguments)

    def countdown_s(self, retries: int) -> int:
        """Seconds until the next try after ``retries`` of them."""
        factor = int(max(1.0, self.retry_backoff))
        countdown = min(int(self.retry_backoff_max), factor << min(retries, _MAX_EXPONENT))
        if self.retry_jitter:
            return random.randrange(countdown + 1)  # noqa: S311 - spreads load
        return countdown


def _exceptions(task_name: str, option: str, given: Any) -> tuple[type[BaseException], ...]:
    classes = tuple(given) if isinstance(given, Iterable) else (given,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TypeError(f"task {task_name!r}: {option} names no exception: {one!r}")
    return classes

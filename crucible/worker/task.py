"""A task: a function under a name, and how it is to be run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    TaskFunction = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One task.

    Attributes:
        name: its registered name.
        function: called with the context, then the message's arguments; a plain function is run
            in a thread.
        is_async: whether it is a coroutine function.
        track_started: store STARTED when it starts.
        ignore_result: store no result unless the message wants one.
        max_retries: tries after the first; None for any number.
        retry_delay_s: seconds until the next try where ``ctx.retry`` names none.
        time_limit: seconds after which it is stopped, or None.
        soft_time_limit: seconds after which ``SoftTimeLimitExceeded`` is raised in it, or None.
        rate_limit: as Celery writes it (``10/m``), or None.
        keep_failed: keep the message as a dead letter when the task fails for good.
        resumes: it goes on where it was when it runs again: a stock worker gives its message back
            when the child process that runs it dies, instead of failing it.
        home: the registry it was defined in, whose lifespan value it is given.
    """

    name: str
    function: TaskFunction
    is_async: bool
    track_started: bool
    ignore_result: bool
    max_retries: int | None
    retry_delay_s: float
    time_limit: float | None
    soft_time_limit: float | None
    rate_limit: str | None
    keep_failed: bool = False
    resumes: bool = False
    home: Hashable

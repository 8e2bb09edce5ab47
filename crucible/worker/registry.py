"""Tasks by name: what a worker can run.

Importing this module starts nothing and needs no event loop, so a stock Celery application can
serve the same registry.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack, cast

from crucible.breaker import worst
from crucible.worker.autoretry import AutoRetry
from crucible.worker.definition import check
from crucible.worker.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AsyncExitStack

    from crucible.breaker import Circuit
    from crucible.worker.autoretry import AutoRetryOptions
    from crucible.worker.hooks import TaskHooks
    from crucible.worker.task import TaskFunction

    Lifespan = Callable[[], AbstractAsyncContextManager[Any]]


class TaskRegistry:
    """Tasks by name.

    Args:
        lifespan: makes an async context manager that is entered when a worker starts and left
            when it stops; its value is ``ctx.state`` of every task defined here.
        trouble: says what keeps the tasks from being run now, or nothing; workers publish it with
            their heartbeat. Must not block.
        circuits: the circuit breakers before what the tasks call, by downstream; published
            likewise.
        gauges: what the tasks can measure of themselves, by name; published likewise.
        hooks: notified of what happens to every task of an async worker that serves this registry;
            one, or several.
    """

    def __init__(
        self,
        lifespan: Lifespan | None = None,
        trouble: Callable[[], str] | None = None,
        circuits: Callable[[], Mapping[str, Circuit]] | None = None,
        hooks: TaskHooks | Sequence[TaskHooks] | None = None,
        *,
        gauges: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        self.lifespan = lifespan
        self.trouble = trouble
        self.circuits = circuits
        self.gauges = gauges
        if hooks is None:
            hooks = ()
        self.hooks: tuple[TaskHooks, ...] = (
            tuple(hooks) if isinstance(hooks, (list, tuple)) else (cast("TaskHooks", hooks),)
        )
        self._tasks: dict[str, Task] = {}

    def task(
        self,
        name: str,
        *,
        track_started: bool = False,
        ignore_result: bool = False,
        max_retries: int | None = 3,
        retry_delay_s: float = 180.0,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        rate_limit: str | None = None,
        keep_failed: bool = False,
        resumes: bool = False,
        **retries: Unpack[AutoRetryOptions],
    ) -> Callable[[TaskFunction], TaskFunction]:
        """Register the decorated function under ``name``.

        See ``Task`` for the options, and ``AutoRetry`` for those in ``retries``: which exceptions
        have the task tried again.

        Raises:
            TypeError: no name, a function that takes no context, or an option that is not known.
            ValueError: the name is taken or empty, or an option has no meaning.
        """
        given: object = name
        if not isinstance(given, str):
            called = getattr(given, "__name__", "NAME")
            raise TypeError(
                f'a task needs a name: @registry.task("proj.tasks.{called}"), with parentheses'
            )

        autoretry = AutoRetry.of(name, retries)

        def register(function: TaskFunction) -> TaskFunction:
            self.add(
                Task(
                    name=name,
                    function=autoretry.wrap(function),
                    is_async=inspect.iscoroutinefunction(function),
                    track_started=track_started,
                    ignore_result=ignore_result,
                    max_retries=max_retries,
                    retry_delay_s=retry_delay_s,
                    time_limit=time_limit,
                    soft_time_limit=soft_time_limit,
                    rate_limit=rate_limit,
                    keep_failed=keep_failed,
                    resumes=resumes,
                    home=self,
                )
            )
            return function

        return register

    def add(self, task: Task) -> None:
        """Register a task made elsewhere.

        Raises:
            TypeError: its function takes no context.
            ValueError: the name is taken or empty, or an option has no meaning.
        """
        if not task.name:
            raise ValueError("a task needs a name")
        if task.name in self._tasks:
            raise ValueError(f"task {task.name!r} is registered already")
        check(task)
        self._tasks[task.name] = task

    def limit(self, soft_s: float | None, hard_s: float | None, but: Collection[str] = ()) -> None:
        """Give tasks that have no time limits these.

        Args:
            soft_s: seconds after which ``SoftTimeLimitExceeded`` is raised in a task, or None.
            hard_s: seconds after which it is stopped, or None.
            but: names of tasks that stay without.
        """
        for task in self:
            if task.name not in but and task.time_limit is None and task.soft_time_limit is None:
                self._tasks[task.name] = replace(task, time_limit=hard_s, soft_time_limit=soft_s)

    def include(self, other: TaskRegistry) -> None:
        """Serve the tasks of another registry too, with that registry's lifespan.

        Raises:
            ValueError: both have a task of the same name.
        """
        for task in other:
            self.add(task)

    @property
    def homes(self) -> list[TaskRegistry]:
        """Every registry whose tasks are served here, each once; this one first."""
        homes = (task.home for task in self)
        return list(
            dict.fromkeys([self, *(home for home in homes if isinstance(home, TaskRegistry))])
        )

    async def open(self, stack: AsyncExitStack) -> dict[Hashable, Any]:
        """Enter every lifespan; ``stack`` leaves them. Returns their values by registry."""
        return {
            home: await stack.enter_async_context(home.lifespan())
            for home in self.homes
            if home.lifespan is not None
        }

    def troubles(self) -> str:
        """What keeps the tasks served here from being run now; empty when nothing does."""
        return "; ".join(filter(None, [home.trouble() for home in self.homes if home.trouble]))

    def all_hooks(self) -> list[TaskHooks]:
        """The hooks of every registry whose tasks are served here."""
        return [hook for home in self.homes for hook in home.hooks]

    def all_circuits(self) -> dict[str, Circuit]:
        """The circuit breakers before what the tasks served here call, by downstream."""
        return worst(home.circuits() for home in self.homes if home.circuits)

    def all_gauges(self) -> dict[str, int]:
        """What the tasks served here can measure of themselves, by name."""
        return {name: n for h in self.homes if h.gauges for name, n in h.gauges().items()}

    @property
    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._tasks)

    def get(self, name: str) -> Task | None:
        """The task of this name, or None."""
        return self._tasks.get(name)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

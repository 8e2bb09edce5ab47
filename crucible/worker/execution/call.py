"""Calling tasks' functions: with a context, in the loop or in a thread, within time limits."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from crucible.worker.execution.cancellation import stop_run
from crucible.worker.execution.isolate import isolate
from crucible.worker.run import Stop
from crucible.worker.run_context import ContextServices, RunContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence

    from crucible.broker.wire.decode import Message
    from crucible.worker.canvas.outgoing import TaskSender
    from crucible.worker.execution.threads import Threads
    from crucible.worker.run import Run
    from crucible.worker.state_updates import StateUpdates
    from crucible.worker.task import Task


class Caller:
    """Calls functions.

    Args:
        hostname: node name of the worker.
        lifespans: lifespan values by registry.
        threads: runs plain functions.
        states: stores states of running tasks.
        sender: sends what running tasks ask for.
        time_limits: overrides of tasks' time limits by name: hard, soft.
    """

    def __init__(
        self,
        hostname: str,
        lifespans: Mapping[Hashable, Any],
        threads: Threads,
        states: StateUpdates,
        sender: TaskSender,
        time_limits: Mapping[str, tuple[float | None, float | None]],
    ) -> None:
        self._lifespans = lifespans
        self._threads = threads
        self._time_limits = time_limits
        self._services = ContextServices(hostname, states, sender, self.invoke)

    async def call(self, run: Run, message: Message, task: Task) -> Any:
        """Call the function a message is for, within its time limits; what it returned."""
        hard, soft = self._limits_of(message, task)
        context = self._context(run, message, task, (hard, soft))
        if not hard and not soft:
            return await self._start(run, task, context, context.args, context.kwargs)
        run.hard_limit_s = hard
        limits = _Limits(run, hard, soft)
        try:
            return await self._start(run, task, context, context.args, context.kwargs, limits)
        finally:
            limits.disarm()

    def _limits_of(self, message: Message, task: Task) -> tuple[float | None, float | None]:
        """Hard and soft limit of a run: the message's, then remote control's, then the task's."""
        hard, soft = message.timelimit
        if hard is None or soft is None:
            task_hard, task_soft = self._time_limits.get(
                task.name, (task.time_limit, task.soft_time_limit)
            )
            hard = task_hard if hard is None else hard
            soft = task_soft if soft is None else soft
        return hard, soft

    async def invoke(
        self, run: Run, task: Task, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Call another task's function within ``run``, such as an errback; what it returned."""
        assert run.message is not None
        context = self._context(run, run.message, task)
        return await self._start(run, task, context, args, kwargs)

    def _context(
        self,
        run: Run,
        message: Message,
        task: Task,
        limits: tuple[float | None, float | None] = (None, None),
    ) -> RunContext:
        lifespan = self._lifespans.get(task.home)
        return RunContext(run, message, task, lifespan, self._services, limits)

    def _start(
        self,
        run: Run,
        task: Task,
        context: RunContext,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        limits: _Limits | None = None,
    ) -> Awaitable[Any]:
        if task.is_async:
            if limits is not None:
                limits.arm()
            return isolate(task.function(context, *args, **kwargs), run)
        work = partial(task.function, context, *args, **kwargs)
        return isolate(self._in_thread(run, work, limits), run)

    async def _in_thread(self, run: Run, work: Callable[[], Any], limits: _Limits | None) -> Any:
        run.threaded = True
        try:
            # Limits count from when the function is called: it may have to wait for a thread.
            return await self._threads.call(work, None if limits is None else limits.arm)
        finally:
            run.threaded = False


class _Limits:
    """The time limits of one call, counted from ``arm`` on."""

    def __init__(self, run: Run, hard: float | None, soft: float | None) -> None:
        self._run = run
        self._limits = ((soft, _soft_limit), (hard, _hard_limit))
        self._timers: list[asyncio.TimerHandle] = []
        self._over = False

    def arm(self) -> None:
        if self._over:
            return
        loop = asyncio.get_running_loop()
        for limit_s, enforce in self._limits:
            if limit_s:
                self._timers.append(loop.call_later(limit_s, enforce, self._run))

    def disarm(self) -> None:
        self._over = True
        for timer in self._timers:
            timer.cancel()


def _soft_limit(run: Run) -> None:
    if run.stop is None and run.runner is not None:
        run.soft_limit = True
        run.runner.cancel()


def _hard_limit(run: Run) -> None:
    stop_run(run, Stop.TIME_LIMIT)

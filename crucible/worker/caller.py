"""Calling tasks' functions: with a context, in the loop or in a thread, within time limits."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from crucible.worker.context import RunContext
from crucible.worker.drive import drive
from crucible.worker.hooks import Stop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from crucible.broker.wire.message import Message
    from crucible.worker.hooks import Run
    from crucible.worker.registry import Task, TaskRegistry


class Caller:
    """Calls functions.

    Args:
        hostname: node name of the worker.
        states: lifespan values by registry.
        threads: runs plain functions.
        update: stores a state of a message's task.
        limits: overrides of tasks' time limits by name: hard, soft.
    """

    def __init__(
        self,
        hostname: str,
        states: Mapping[TaskRegistry, Any],
        threads: Executor,
        update: Callable[[Message, str, Any], Awaitable[None]],
        limits: Mapping[str, tuple[float | None, float | None]],
    ) -> None:
        self._hostname = hostname
        self._states = states
        self._threads = threads
        self._update = update
        self._limits = limits

    async def call(self, run: Run, message: Message, task: Task) -> Any:
        """Call the function a message is for, within its time limits; what it returned."""
        context = self._context(run, message, task)
        hard, soft = message.timelimit
        if hard is None or soft is None:
            task_hard, task_soft = self._limits.get(
                task.name, (task.time_limit, task.soft_time_limit)
            )
            hard = task_hard if hard is None else hard
            soft = task_soft if soft is None else soft
        work = self._start(run, task, context, context.args, context.kwargs)
        if not hard and not soft:
            return await work
        with _limited(run, hard, soft):
            return await work

    async def invoke(
        self, run: Run, task: Task, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Call another task's function within ``run``, such as an errback; what it returned."""
        assert run.message is not None
        context = self._context(run, run.message, task)
        return await self._start(run, task, context, args, kwargs)

    def _context(self, run: Run, message: Message, task: Task) -> RunContext:
        state = self._states.get(task.home)
        return RunContext(run, message, task, self._hostname, state, self._update, self.invoke)

    def _start(
        self,
        run: Run,
        task: Task,
        context: RunContext,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Awaitable[Any]:
        if task.is_async:
            return drive(task.function(context, *args, **kwargs), run)
        return self._in_thread(partial(task.function, context, *args, **kwargs))

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, copy_context().run, work)


@contextlib.contextmanager
def _limited(run: Run, hard: float | None, soft: float | None) -> Any:
    loop = asyncio.get_running_loop()
    timers = []
    if soft:
        timers.append(loop.call_later(soft, _soft_limit, run))
    if hard:
        timers.append(loop.call_later(hard, _hard_limit, run))
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def _soft_limit(run: Run) -> None:
    if run.stop is None and run.runner is not None:
        run.soft_limit = True
        run.runner.cancel()


def _hard_limit(run: Run) -> None:
    if run.stop is None and run.runner is not None:
        run.stop = Stop.TIME_LIMIT
        run.runner.cancel()

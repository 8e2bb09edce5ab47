"""Registers a registry's tasks with a stock Celery application: same functions, same results."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from celery import exceptions

from crucible.broker.canvas.signature import signature
from crucible.stock.loop import LoopThread
from crucible.worker import exceptions as raised

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery import Celery

    from crucible.worker.registry import TaskRegistry
    from crucible.worker.task import Task


class StockContext:
    """The context of one run in a stock worker; attributes as in ``worker.TaskContext``."""

    def __init__(self, celery_task: Any, task: Task, state: Any) -> None:
        request = celery_task.request
        self._celery_task = celery_task
        # Celery looks the request up by thread, and the coroutine runs in the loop's thread.
        self._request = request
        self._task = task
        self.args: list[Any] = list(request.args or ())
        self.kwargs: dict[str, Any] = dict(request.kwargs or {})
        self.id: str = request.id
        self.name = task.name
        self.retries: int = request.retries
        self.headers: Mapping[str, Any] = request.headers or {}
        self.hostname: str = request.hostname or ""
        self.root_id: str = request.root_id or request.id
        self.parent_id: str | None = request.parent_id
        self.group: str | None = request.group
        self.state = state

    @property
    def delivery_info(self) -> Mapping[str, Any]:
        """Exchange, routing_key, priority, redelivered."""
        info: Mapping[str, Any] = self._request.delivery_info or {}
        return info

    async def update_state(self, state: str, meta: Any = None) -> None:
        """Store a custom state through the stock backend."""
        self._celery_task.update_state(task_id=self.id, state=state, meta=meta)

    def leave(self, value: Any) -> None:
        """Does nothing: a stock worker kills the process of a task it terminates."""

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> BaseException:
        """The exception to raise to run again; as in ``worker.RunContext.retry``."""
        limit = self._task.max_retries if max_retries is None else max_retries
        if limit is not None and self.retries >= limit:
            return exc or raised.MaxRetriesExceeded(f"Can't retry {self.name}[{self.id}]")
        delay = self._task.retry_delay_s if countdown is None else countdown
        return raised.Retry(max(0.0, delay), exc)

    def replace(self, work: Mapping[str, Any]) -> BaseException:
        """The exception to raise to be replaced; as in ``worker.RunContext.replace``."""
        return raised.Replaced(work)

    async def send(
        self, work: str | Mapping[str, Any], args: Sequence[Any] = (), **options: Any
    ) -> str:
        """Start a task or a signature; as in ``worker.RunContext.send``."""
        if isinstance(work, str):
            work = signature(work, kwargs=options.pop("kwargs", None))
        return self._start(self._celery_task.app.signature(dict(work)), args, options)

    async def add_to_chord(self, work: Mapping[str, Any]) -> str:
        """Start one more part of the chord; as in ``worker.RunContext.add_to_chord``."""
        request, app = self._request, self._celery_task.app
        if not request.chord:
            raise ValueError("the task is not part of a chord")
        sig = app.signature(dict(work))
        sig.set(group_id=request.group, group_index=request.group_index, chord=request.chord)
        app.backend.add_to_chord(request.group, sig.freeze())
        return self._start(sig, (), {})

    def _start(self, sig: Any, args: Sequence[Any], options: dict[str, Any]) -> str:
        result = sig.apply_async(
            args, root_id=self.root_id, parent_id=self.id, add_to_parent=False, **options
        )
        self._request.children.append(result)
        return str(result.id)


class Bridge:
    """Registers every task of a registry with a Celery application.

    Args:
        app: the application.
        registry: the tasks.
    """

    def __init__(self, app: Celery, registry: TaskRegistry) -> None:
        self._loop = LoopThread(registry)
        for task in registry:
            self._register(app, task)

    def _register(self, app: Celery, task: Task) -> None:
        def run(celery_task: Any, *args: Any, **kwargs: Any) -> Any:
            return self._run(celery_task, task, args, kwargs)

        app.task(
            run,
            name=task.name,
            bind=True,
            # shared=True would register the task with every application of the process.
            shared=False,
            track_started=task.track_started,
            ignore_result=task.ignore_result,
            max_retries=task.max_retries,
            default_retry_delay=task.retry_delay_s,
            time_limit=task.time_limit,
            soft_time_limit=task.soft_time_limit,
            rate_limit=task.rate_limit,
        )

    def _run(self, celery_task: Any, task: Task, args: Any, kwargs: Any) -> Any:
        context = StockContext(celery_task, task, self._loop.state_of(task.home))
        try:
            result = task.function(context, *args, **kwargs)
            return self._loop.run(result) if inspect.iscoroutine(result) else result
        except raised.Retry as retry:
            # ctx.retry has already checked max_retries; None keeps stock from checking it again.
            raise celery_task.retry(
                exc=retry.exc, countdown=retry.countdown, max_retries=self._unlimited, throw=False
            ) from retry
        except raised.Replaced as replaced:
            return celery_task.replace(celery_task.app.signature(dict(replaced.work)))
        except raised.Ignore as ignore:
            raise exceptions.Ignore from ignore
        except raised.Reject as reject:
            raise exceptions.Reject(reject.reason, requeue=reject.requeue) from reject

    #: More retries than any task has; stock reads None as "the task's own max_retries".
    _unlimited = 1_000_000_000

    def close(self) -> None:
        """Close the lifespans that tasks opened in this process."""
        self._loop.close()

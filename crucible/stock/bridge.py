"""Registers a registry's tasks with a stock Celery application: same functions, same results."""

from __future__ import annotations

import inspect
import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Unpack

from celery import exceptions, signals, states
from celery.backends.base import DisabledBackend

from crucible.broker.canvas.signature import signature
from crucible.stock.loop import LoopThread
from crucible.worker import exceptions as raised
from crucible.worker.retries import retry_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery import Celery

    from crucible.broker.wire.retry import RetryOptions
    from crucible.worker.registry import TaskRegistry
    from crucible.worker.retries import RetryArguments
    from crucible.worker.task import Task


class _OfRequest:
    """An attribute that stock's request has under the same name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, context: StockContext, owner: type | None = None) -> Any:
        return getattr(context.request, self._name)


class StockContext:
    """The context of one run in a stock worker; attributes as in ``worker.TaskContext``."""

    properties = _OfRequest()
    correlation_id = _OfRequest()
    reply_to = _OfRequest()
    origin = _OfRequest()
    eta = _OfRequest()
    expires = _OfRequest()
    timelimit = _OfRequest()
    group_index = _OfRequest()
    shadow = _OfRequest()
    ignore_result = _OfRequest()
    replaced_task_nesting = _OfRequest()
    stamped_headers = _OfRequest()
    stamps = _OfRequest()
    callbacks = _OfRequest()
    errbacks = _OfRequest()
    chain = _OfRequest()
    chord = _OfRequest()

    def __init__(self, celery_task: Any, task: Task, state: Any) -> None:
        request = celery_task.request
        self._celery_task = celery_task
        # Celery looks the request up by thread, and the coroutine runs in the loop's thread.
        self.request = request
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
        hard_s, soft_s = request.timelimit or (None, None)
        self.time_limit: float | None = task.time_limit if hard_s is None else hard_s
        self.soft_time_limit: float | None = task.soft_time_limit if soft_s is None else soft_s
        self.retry_limit: int | None = None

    @property
    def delivery_info(self) -> Mapping[str, Any]:
        """Exchange, routing_key, priority, redelivered."""
        info: Mapping[str, Any] = self.request.delivery_info or {}
        return info

    async def update_state(
        self, state: str, meta: Any = None, *, task_id: str | None = None
    ) -> None:
        """Store a custom state, of another task with ``task_id``, through the stock backend."""
        self._celery_task.update_state(task_id=task_id or self.id, state=state, meta=meta)

    def leave(self, value: Any) -> None:
        """Does nothing: a stock worker kills the process of a task it terminates."""

    def keep_result(self, seconds: int) -> None:
        """Does nothing: the backend has one lifetime for all results."""

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Unpack[RetryArguments],
    ) -> BaseException:
        """The exception to raise to run again; as in ``worker.RunContext.retry``."""
        if max_retries is not None:
            self.retry_limit = max_retries
        return retry_of(self, self._task, exc, countdown, max_retries, options)

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
        request, app = self.request, self._celery_task.app
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
        self.request.children.append(result)
        return str(result.id)


def _given(options: RetryOptions) -> dict[str, Any]:
    """The options of a next try that are not as they are."""
    every = {option.name: getattr(options, option.name) for option in fields(options)}
    return {name: value for name, value in every.items() if value is not None}


def _begin(celery_task: Any) -> None:
    """Store STARTED as stock does, but not over REVOKED.

    A worker that has a task in memory, and was not reachable when it was revoked, would run it, and
    its result would replace the REVOKED that everybody has been shown: stock keeps SUCCESS only
    (``KeyValueStoreBackend._store_result``).

    Raises:
        Ignore: it was revoked before it began.
    """
    request, backend = celery_task.request, celery_task.backend
    # What its message does not say has a default in the class of requests.
    ignored = vars(request).get("ignore_result")
    if ignored is None:
        ignored = celery_task.ignore_result
    is_here = request.is_eager or request.called_directly
    if ignored or is_here or isinstance(backend, DisabledBackend):
        return
    if backend.get_task_meta(request.id, cache=False)["status"] == states.REVOKED:
        # The chord that it is part of is not told otherwise.
        backend.mark_as_revoked(request.id, "revoked", request, store_result=False)
        # As stock's main process does with what it knows to be revoked.
        signals.task_revoked.send(
            celery_task, request=request, terminated=False, signum=None, expired=False
        )
        raise exceptions.Ignore
    started = {"pid": os.getpid(), "hostname": request.hostname}
    backend.store_result(request.id, started, states.STARTED, request=request)


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
            Request="crucible.stock.request:Request",
            # shared=True would register the task with every application of the process.
            shared=False,
            # ``_begin`` does it.
            track_started=False,
            ignore_result=task.ignore_result,
            max_retries=task.max_retries,
            default_retry_delay=task.retry_delay_s,
            time_limit=task.time_limit,
            soft_time_limit=task.soft_time_limit,
            rate_limit=task.rate_limit,
            reject_on_worker_lost=task.resumes,
        )

    def _run(self, celery_task: Any, task: Task, args: Any, kwargs: Any) -> Any:
        context = StockContext(celery_task, task, self._loop.state_of(task.home))
        if task.track_started:
            _begin(celery_task)
        try:
            result = task.function(context, *args, **kwargs)
            return self._loop.run(result) if inspect.iscoroutine(result) else result
        except raised.Retry as retry:
            raise self._next_try(celery_task, retry) from retry
        except raised.MaxRetriesExceeded as exceeded:
            raise exceptions.MaxRetriesExceededError(*exceeded.args) from exceeded
        except raised.Replaced as replaced:
            return celery_task.replace(celery_task.app.signature(dict(replaced.work)))
        except raised.Ignore as ignore:
            raise exceptions.Ignore from ignore
        except raised.Reject as reject:
            raise exceptions.Reject(reject.reason, requeue=reject.requeue) from reject

    def _next_try(self, celery_task: Any, retry: raised.Retry) -> BaseException:
        """Send the message of the next try; what the task has to raise then.

        Stock drops a task whose next try cannot be sent. The message of this try goes back to its
        queue instead, unless the next one could never be sent: what it carries was checked before,
        so it is the connection nearly always, for which kombu has errors of any kind (of a channel
        that is closed it asks None for an attribute).
        """
        try:
            next_try = celery_task.retry(
                exc=retry.exc,
                eta=retry.eta,
                countdown=retry.countdown,
                # ctx.retry has already checked it, and stock must not check it again.
                max_retries=self._unlimited,
                throw=False,
                **_given(retry.options),
            )
        except exceptions.Reject as reject:
            never = isinstance(reject.reason, (exceptions.QueueNotFound, TypeError, ValueError))
            next_try = exceptions.Reject(reject.reason, requeue=not never)
        assert isinstance(next_try, BaseException)
        return next_try

    @property
    def is_open(self) -> bool:
        """Whether what tasks need is open in this process, hooks of evaluations included."""
        return self._loop.is_open

    #: More retries than any task has; stock reads None as "the task's own max_retries".
    _unlimited = 1_000_000_000

    def close(self) -> None:
        """Close the lifespans that tasks opened in this process."""
        self._loop.close()

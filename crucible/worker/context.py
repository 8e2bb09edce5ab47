"""What a task's function learns about its own run, and the few things it may ask for.

The surface is small on purpose: a stock Celery worker that serves the same functions provides it
with an adapter of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from crucible.broker.canvas.signature import signature
from crucible.worker.exceptions import MaxRetriesExceeded, Replaced, Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from crucible.broker.wire.decode import Message
    from crucible.broker.wire.result_tree import ResultTree
    from crucible.worker.canvas.outgoing import TaskSender
    from crucible.worker.run import Run
    from crucible.worker.state_updates import StateUpdates
    from crucible.worker.task import Task

    #: Calls a task's function in this worker, within a run; returns what it returned.
    Invoke = Callable[[Run, Task, Sequence[Any], dict[str, Any]], Awaitable[Any]]


class TaskContext(Protocol):
    """The first argument of every task function.

    Attributes:
        id: the task's id.
        name: its registered name.
        args: positional arguments of the message.
        kwargs: keyword arguments of the message.
        retries: how often it was tried before; 0 at the first try.
        headers: the message's headers.
        delivery_info: exchange, routing_key, priority, redelivered.
        hostname: node name of the worker.
        root_id: id of the first task of its tree.
        parent_id: id of the task that sent it, or None.
        group: id of its group or chord, or None.
        state: value of the registry's lifespan.
    """

    id: str
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    retries: int
    headers: Mapping[str, Any]
    hostname: str
    root_id: str
    parent_id: str | None
    group: str | None
    state: Any

    @property
    def delivery_info(self) -> Mapping[str, Any]:
        """Exchange, routing_key, priority, redelivered."""

    async def update_state(self, state: str, meta: Any = None) -> None:
        """Store a state of the task's own, such as PROGRESS, and publish it."""

    def leave(self, value: Any) -> None:
        """What clients find beside REVOKED when the task is terminated, such as partial output.

        A stock worker kills a terminated task, which then leaves nothing.
        """

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> BaseException:
        """The exception to raise to run again after ``countdown`` seconds."""

    def replace(self, work: Mapping[str, Any]) -> BaseException:
        """The exception to raise to let another signature take this task's place."""

    async def send(
        self, work: str | Mapping[str, Any], args: Sequence[Any] = (), **options: Any
    ) -> str:
        """Start a task by name, or a signature, as a child of this one; the id of its result."""

    async def add_to_chord(self, work: Mapping[str, Any]) -> str:
        """Start a signature as one more part of this task's chord; its id."""


@dataclass(frozen=True, slots=True)
class ContextServices:
    """What the contexts of one worker have in common.

    Attributes:
        hostname: node name of the worker.
        states: stores states of running tasks.
        sender: sends what running tasks ask for.
        invoke: calls another task's function.
    """

    hostname: str
    states: StateUpdates
    sender: TaskSender
    invoke: Invoke


class RunContext:
    """The context of one run in an async worker."""

    __slots__ = (
        "_message",
        "_services",
        "_task",
        "args",
        "group",
        "headers",
        "hostname",
        "id",
        "kwargs",
        "name",
        "parent_id",
        "retries",
        "root_id",
        "run",
        "state",
    )

    def __init__(
        self,
        run: Run,
        message: Message,
        task: Task,
        state: Any,
        services: ContextServices,
    ) -> None:
        self.run = run
        self._message = message
        self._services = services
        self._task = task
        self.args, self.kwargs, _ = message.decode_body()
        self.id = message.id
        self.name = message.task
        self.retries = message.retries
        self.headers: Mapping[str, Any] = message.headers
        self.hostname = services.hostname
        self.root_id = message.root_id
        self.parent_id = message.parent_id
        self.group = message.group
        self.state = state

    @property
    def delivery_info(self) -> Mapping[str, Any]:
        """Exchange, routing_key, priority, redelivered, as stock requests have them."""
        message = self._message
        return {
            "exchange": message.exchange,
            "routing_key": message.queue,
            "priority": message.priority,
            "redelivered": message.redelivered,
        }

    async def update_state(self, state: str, meta: Any = None) -> None:
        """Store a state of the task's own and publish it; a result already there stays.

        Raises:
            TypeError: ``meta`` is of a kind JSON cannot carry.
        """
        await self._services.states.store(self._message, state, meta)

    def leave(self, value: Any) -> None:
        """What is stored beside REVOKED, as ``left``, when the task is terminated.

        Of kinds JSON can carry; what it cannot carry is left out.
        """
        self.run.left = value

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> BaseException:
        """The exception to raise to run again after ``countdown`` seconds.

        Returns ``exc``, or ``MaxRetriesExceeded``, once ``max_retries`` (the task's own where
        None) are used up: raising that fails the task, as stock's ``retry`` does.

        Raises:
            OverflowError: ``countdown`` ends after the year 9999.
        """
        limit = self._task.max_retries if max_retries is None else max_retries
        if limit is not None and self.retries >= limit:
            return exc or MaxRetriesExceeded(
                f"Can't retry {self.name}[{self.id}] args:{self.args} kwargs:{self.kwargs}"
            )
        delay = max(0.0, self._task.retry_delay_s if countdown is None else countdown)
        # An eta beyond the calendar cannot be written: raise here, not once the task has ended.
        _ = datetime.now(UTC) + timedelta(seconds=delay)
        return Retry(delay, exc)

    def replace(self, work: Mapping[str, Any]) -> BaseException:
        """The exception to raise to let another signature take this task's place.

        It runs under this task's id, with its callbacks, its chord and the rest of its chain.
        """
        return Replaced(work)

    async def send(
        self, work: str | Mapping[str, Any], args: Sequence[Any] = (), **options: Any
    ) -> str:
        """Start a task, or a signature, as a child of this one; the id of its result.

        Args:
            work: a task's name, or a signature.
            args: positional arguments, in front of the signature's own.
            options: ``kwargs``, and execution options such as ``queue`` or ``countdown``.

        Raises:
            BrokerError: it may or may not have been sent.
        """
        if isinstance(work, str):
            work = signature(work, kwargs=options.pop("kwargs", None))
        return (await self._services.sender.send(self.run, work, args, **options)).id

    async def start(self, work: Mapping[str, Any], args: Sequence[Any] = ()) -> ResultTree:
        """Start a signature as a child of this task; its result node."""
        return await self._services.sender.send(self.run, work, args)

    async def call(self, task: Task, args: Sequence[Any]) -> Any:
        """Call another task's function within this run; what it returned."""
        return await self._services.invoke(self.run, task, args, {})

    async def add_to_chord(self, work: Mapping[str, Any]) -> str:
        """Start a signature as one more part of the chord this task is part of; its id.

        Raises:
            ValueError: this task is not part of a chord.
            BrokerError: it may or may not have been sent.
        """
        return (await self._services.sender.add_to_chord(self.run, work)).id

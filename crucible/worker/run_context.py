"""The context of one run in an async worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from crucible.broker.canvas.signature import signature
from crucible.worker.exceptions import Replaced
from crucible.worker.message_fields import MessageFields
from crucible.worker.retries import retry_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from crucible.broker.wire.decode import Message
    from crucible.broker.wire.result_tree import ResultTree
    from crucible.worker.canvas.outgoing import TaskSender
    from crucible.worker.retries import RetryArguments
    from crucible.worker.run import Run
    from crucible.worker.state_updates import StateUpdates
    from crucible.worker.task import Task

    #: Calls a task's function in this worker, within a run; returns what it returned.
    Invoke = Callable[[Run, Task, Sequence[Any], dict[str, Any]], Awaitable[Any]]


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


class RunContext(MessageFields):
    """The context of one run in an async worker."""

    __slots__ = (
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
        "retry_limit",
        "root_id",
        "run",
        "soft_time_limit",
        "state",
        "time_limit",
    )

    def __init__(
        self,
        run: Run,
        message: Message,
        task: Task,
        state: Any,
        services: ContextServices,
        limits: tuple[float | None, float | None] = (None, None),
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
        self.time_limit, self.soft_time_limit = limits
        self.retry_limit: int | None = None

    async def update_state(
        self, state: str, meta: Any = None, *, task_id: str | None = None
    ) -> None:
        """Store a state of the task's own and publish it; a result already there stays.

        Args:
            state: which.
            meta: what clients find with it.
            task_id: another task whose state it is: one whose place this one took a part of.

        Raises:
            TypeError: ``meta`` is of a kind JSON cannot carry.
        """
        await self._services.states.store(self._message, state, meta, task_id)

    def leave(self, value: Any) -> None:
        """What is stored beside REVOKED, as ``left``, when the task is terminated.

        Of kinds JSON can carry; what it cannot carry is left out.
        """
        self.run.left = value

    def keep_result(self, seconds: int) -> None:
        """Have the result kept for so long from the end of this run on."""
        self.run.result_ttl_s = seconds

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Unpack[RetryArguments],
    ) -> BaseException:
        """The exception to raise to run again after ``countdown`` seconds.

        Returns ``exc``, or ``MaxRetriesExceeded``, once ``max_retries`` (the task's own where
        None) are used up: raising that fails the task, as stock's ``retry`` does.

        Raises:
            OverflowError: ``countdown`` ends after the year 9999.
            TypeError: an option is not known, or of a kind that JSON cannot carry.
            ValueError: an option is circular.
        """
        if max_retries is not None:
            self.retry_limit = max_retries
        return retry_of(self, self._task, exc, countdown, max_retries, options)

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

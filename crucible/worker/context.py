"""What a task's function learns about its own run, and the few things it may ask for.

The surface is small on purpose: a stock Celery worker that serves the same functions provides it
with an adapter of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Unpack

from crucible.worker.message_fields import TaskRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crucible.worker.retries import RetryArguments


class TaskContext(TaskRequest, Protocol):
    """The first argument of every task function; ``TaskRequest`` has the message's properties.

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
        time_limit: the hard limit of this run in seconds, or None.
        soft_time_limit: its soft limit in seconds, or None.
        retry_limit: the ``max_retries`` that this run gave ``retry``, None where it did not.
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
    time_limit: float | None
    soft_time_limit: float | None
    retry_limit: int | None

    async def update_state(
        self, state: str, meta: Any = None, *, task_id: str | None = None
    ) -> None:
        """Store a state of the task's own, such as PROGRESS, and publish it.

        With ``task_id`` it is the state of a task whose place this one took a part of.
        """

    def leave(self, value: Any) -> None:
        """What clients find beside REVOKED when the task is terminated, such as partial output.

        A stock worker kills a terminated task, which then leaves nothing.
        """

    def keep_result(self, seconds: int) -> None:
        """Have the result kept for so long from the end of this run on.

        A stock worker keeps every result for as long as its backend is set to.
        """

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Unpack[RetryArguments],
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

"""Part of a batch being sent: its messages by list, and the position of each in the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.broker.results.task_result import TaskResult
from crucible.errors import BrokerError

if TYPE_CHECKING:
    import asyncio

    from crucible.broker.publishing.group_commit import GroupCommit, PublishResult
    from crucible.broker.results.task_result import Results


class Chunk:
    """Part of a batch, sent in one go.

    Attributes:
        ids: of its tasks, in the caller's order.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._lists: dict[str, ListPart] = {}

    def part(self, queue: str, list_key: str) -> ListPart:
        """What goes to one list; append to its ``messages`` and ``positions``."""
        part = self._lists.get(list_key)
        if part is None:
            part = self._lists[list_key] = ListPart(queue)
        return part

    def begin(self, group_commit: GroupCommit) -> None:
        """Hand everything to the next flush. Raises BrokerUnavailable when closed."""
        for list_key, part in self._lists.items():
            part.done = group_commit.add(part.queue, list_key, part.messages)

    async def finish(self, results: Results) -> list[TaskResult | BrokerError]:
        """The result of each task, once it is known."""
        sent: list[TaskResult | BrokerError] = [TaskResult(i, results) for i in self.ids]
        for part in self._lists.values():
            pushed, error = await part.result()
            if error is not None:
                for position in part.positions[pushed:]:
                    sent[position] = error
        return sent


class ListPart:
    """The messages of a chunk that go to one list.

    Attributes:
        queue: the list's queue.
        messages: encoded.
        positions: of each message in the chunk.
        done: the result, once begun.
    """

    __slots__ = ("done", "messages", "positions", "queue")

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.messages: list[bytes] = []
        self.positions: list[int] = []
        self.done: asyncio.Future[PublishResult] | None = None

    async def result(self) -> tuple[int, BrokerError | None]:
        """How many were pushed, and why not more."""
        if self.done is None:
            raise RuntimeError("a part is finished before it began")
        try:
            result = await self.done
        except BrokerError as error:
            return 0, error
        return result.pushed, result.error

"""What a sender holds of a task it sent, and what can be asked of any task's result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.translation import translated
from crucible.broker.results.meta import PENDING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from crucible.broker.redis.link import Link
    from crucible.broker.results.lookup import Lookup
    from crucible.broker.results.meta import Meta
    from crucible.broker.results.waiter import Waiter
    from crucible.broker.wire.result_tree import ResultTree
    from crucible.redis_keys import Keys


class Results:
    """Stored results, by task id."""

    def __init__(
        self, link: Link, lookup: Lookup, waiter: Waiter, keys: Keys, deadline_s: float
    ) -> None:
        self._link = link
        self._lookup = lookup
        self._waiter = waiter
        self._keys = keys
        self._deadline_s = deadline_s

    async def meta(self, task_id: str) -> Meta | None:
        """What is stored of a task, or None; all who ask at once share one command.

        Raises:
            BrokerUnavailable: no answer within the deadline.
        """
        return await self._lookup.meta(task_id)

    async def metas(self, task_ids: Sequence[str]) -> list[Meta | None]:
        """What is stored of each task, in order.

        Raises:
            BrokerUnavailable: no answer within the deadline.
        """
        return await self._lookup.metas(task_ids)

    async def wait(self, task_id: str, timeout: float) -> Meta:
        """The last state of a task, as soon as it is stored; by push, not polling.

        Args:
            task_id: whose.
            timeout: seconds.

        Raises:
            ResultTimeout: it did not end in time.
        """
        return await self._waiter.wait(task_id, timeout)

    def expecting(self, task_id: str) -> AbstractContextManager[asyncio.Future[Meta]]:
        """Listen for a task's last state while the context lasts, from before it is sent."""
        return self._waiter.expecting(task_id)

    async def forget(self, task_id: str) -> None:
        """Delete what is stored of a task.

        Raises:
            BrokerUnavailable: no answer within the deadline.
        """
        with translated():
            async with asyncio.timeout(self._deadline_s):
                await self._link.call("DEL", self._keys.result(task_id))


class TaskResult:
    """One task that was sent.

    Attributes:
        id: its id.
        parent: what runs before it in a canvas, or None.
    """

    __slots__ = ("_results", "id", "parent")

    def __init__(
        self, task_id: str, results: Results, parent: TaskResult | GroupResult | None = None
    ) -> None:
        self.id = task_id
        self.parent = parent
        self._results = results

    def __repr__(self) -> str:
        return f"TaskResult({self.id!r})"

    async def get(self, timeout: float) -> Any:
        """What the task returned.

        Args:
            timeout: seconds to wait for it; there is no waiting without an end.

        Raises:
            TaskFailed: it raised.
            TaskRevoked: it was revoked, terminated or expired.
            ResultTimeout: it did not end in time.
        """
        return (await self._results.wait(self.id, timeout)).value()

    async def meta(self) -> Meta | None:
        """What is stored now, or None. Raises BrokerUnavailable."""
        return await self._results.meta(self.id)

    async def state(self) -> str:
        """Its state; PENDING while nothing is stored, as stock has it. Raises BrokerUnavailable."""
        meta = await self.meta()
        return PENDING if meta is None else meta.status

    async def forget(self) -> None:
        """Delete what is stored. Raises BrokerUnavailable."""
        await self._results.forget(self.id)


class GroupResult:
    """Tasks that were sent beside one another.

    Attributes:
        id: the group's id.
        results: one a member, in order.
        parent: what runs before the group in a canvas, or None.
    """

    __slots__ = ("id", "parent", "results")

    def __init__(
        self,
        group_id: str,
        results: list[TaskResult | GroupResult],
        parent: TaskResult | GroupResult | None = None,
    ) -> None:
        self.id = group_id
        self.results = results
        self.parent = parent

    def __repr__(self) -> str:
        return f"GroupResult({self.id!r}, {self.results!r})"

    async def get(self, timeout: float) -> list[Any]:
        """What the members returned, in order; raises what the first to fail raises.

        Args:
            timeout: seconds to wait for all of them.
        """
        waits = [asyncio.ensure_future(member.get(timeout)) for member in self.results]
        try:
            return list(await asyncio.gather(*waits))
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def handle_of(node: ResultTree, results: Results) -> TaskResult | GroupResult:
    """The handle of a planned canvas."""
    if node.children is not None:
        return group_of(node, results)
    return TaskResult(node.id, results, _parent_of(node, results))


def group_of(node: ResultTree, results: Results) -> GroupResult:
    """The handle of a planned group."""
    members = [handle_of(child, results) for child in node.children or ()]
    return GroupResult(node.id, members, _parent_of(node, results))


def _parent_of(node: ResultTree, results: Results) -> TaskResult | GroupResult | None:
    return handle_of(node.parent, results) if node.parent is not None else None

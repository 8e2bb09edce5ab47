"""Workflows on the task queue server: one hash each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.translation import translated
from crucible.errors import NotFound
from crucible.evaluation.leases import Lease, changed
from crucible.evaluation.record import public_id
from crucible.validation import quoted
from crucible.workflows.record import KEPT_S, Plan, Stage, StepState, Workflow, encode, workflow_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from crucible.redis_keys import Keys


class WorkflowStore:
    """Keeps workflows. Every method raises ``BrokerError`` if the server does not answer.

    Args:
        client: of the task queue server.
        keys: key names.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        # The stubs of redis-py describe blocking and asynchronous answers at once.
        self._redis: Any = client
        self._keys = keys

    async def create(self, workflow_id: str, plan: Plan) -> Workflow:
        """Keep a workflow; one that is there stays and is returned."""
        key = self._keys.workflow(workflow_id)
        fields = {
            "plan": encode(plan),
            "stage": str(Stage.QUEUED),
            "updated_ms": now_ms(),
            "message": "it waits for a worker",
        }

        async def change(pipe: Any) -> Callable[[], None] | None:
            await pipe.watch(key)
            if await pipe.exists(key):
                return None

            def write() -> None:
                pipe.hset(key, mapping=fields)
                pipe.expire(key, KEPT_S)

            return write

        await changed(self._client, change)
        return await self.get(workflow_id)

    async def forget(self, workflow_id: str) -> None:
        """Delete one of which nothing was queued."""
        with translated():
            await self._redis.delete(self._keys.workflow(workflow_id))

    async def get(self, workflow_id: str) -> Workflow:
        """One workflow.

        Raises:
            NotFound: there is none with this id.
        """
        with translated():
            fields = await self._redis.hgetall(self._keys.workflow(workflow_id))
        if not fields:
            raise NotFound(f"no workflow has the id {quoted(public_id(workflow_id), 64)}")
        return workflow_of(workflow_id, fields)

    async def move(
        self,
        workflow_id: str,
        stages: Sequence[Stage],
        states: Mapping[int, StepState] | None = None,
        **fields: Any,
    ) -> tuple[Workflow, bool]:
        """Change a workflow that is in one of ``stages``.

        Args:
            workflow_id: its scoped id.
            stages: those.
            states: of steps.
            fields: of the workflow.

        Returns:
            It as it was before, and whether it was changed.

        Raises:
            NotFound: there is none with this id.
        """
        key = self._keys.workflow(workflow_id)
        steps = {f"step:{number}": encode(state) for number, state in (states or {}).items()}
        before: list[Workflow] = []

        async def change(pipe: Any) -> Callable[[], None] | None:
            await pipe.watch(key)
            before[:] = [await self.get(workflow_id)]
            if before[0].stage not in stages:
                return None

            def write() -> None:
                pipe.hset(key, mapping={**steps, **fields, "updated_ms": now_ms()})
                pipe.expire(key, KEPT_S)

            return write

        made = await changed(self._client, change)
        return before[0], made

    def lease(self, workflow_id: str) -> Lease:
        """Of who runs it."""
        return Lease(self._client, self._keys.workflow_lease(workflow_id))


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000

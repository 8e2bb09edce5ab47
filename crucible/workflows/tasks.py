"""The tasks of workflows: one definition each, served by async and stock workers alike."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.signature import Signature, signature
from crucible.broker.wire.ids import new_id
from crucible.errors import BrokerError
from crucible.evaluation.inner_service import open_inner_service
from crucible.evaluation.record import public_id
from crucible.redis_keys import Keys
from crucible.worker import Ignore, TaskRegistry
from crucible.workflows.driver import LEASE_S, Driver, Taken
from crucible.workflows.hand_on import HAND_ON, evaluate_with
from crucible.workflows.record import OVER, Stage, Workflow
from crucible.workflows.store import WorkflowStore, now_ms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.evaluation.inner_service import InnerService
    from crucible.settings import Settings
    from crucible.worker import TaskContext

PROCESS = "tasks.process_workflow"
QUEUE = "assessments"
#: Seconds for the lease of one that died to end, between two looks at it, and until a task runs
#: again that the server left without an answer.
_LEASE_WAIT_S, _LEASE_LOOK_S, _AGAIN_S = LEASE_S + 2.0, 0.25, 1.0


@dataclass(frozen=True, slots=True)
class Office:
    """What the tasks need while a worker lives.

    Attributes:
        store: keeps workflows.
        inner: takes evaluations.
    """

    store: WorkflowStore
    inner: InnerService


def process(workflow_id: str) -> Signature:
    """Run the steps, or go on with them."""
    return signature(PROCESS, [workflow_id], queue=QUEUE)


def build_registry(settings: Settings) -> TaskRegistry:
    """The tasks of workflows, with what they need opened and closed beside the worker."""
    keys = Keys(settings.global_keyprefix, settings.result_prefix)

    @asynccontextmanager
    async def office() -> AsyncIterator[Office]:
        async with open_inner_service(settings) as inner:
            yield Office(WorkflowStore(inner.client, keys), inner)

    registry = TaskRegistry(office)
    registry.task(PROCESS, max_retries=None, resumes=True)(process_workflow)
    registry.task(HAND_ON)(evaluate_with)
    return registry


async def process_workflow(ctx: TaskContext, workflow_id: str) -> dict[str, Any]:
    """Run the steps of a workflow.

    Args:
        ctx: the task.
        workflow_id: its scoped id.

    Raises:
        NotFound: there is no such workflow.
    """
    office: Office = ctx.state
    try:
        return await _process(ctx, office, workflow_id)
    except Taken as taken:
        raise Ignore(str(taken)) from taken
    except BrokerError as error:
        raise ctx.retry(countdown=_AGAIN_S, exc=error) from error


async def _process(ctx: TaskContext, office: Office, workflow_id: str) -> dict[str, Any]:
    store = office.store
    workflow = await store.get(workflow_id)
    if workflow.stage in OVER:
        return _summary(workflow)
    holder = f"{ctx.id}:{new_id()}"
    give_up_at = asyncio.get_running_loop().time() + _LEASE_WAIT_S
    while not await store.lease(workflow_id).take(holder, LEASE_S):
        if asyncio.get_running_loop().time() > give_up_at:
            raise Taken("another worker runs this workflow")
        await asyncio.sleep(_LEASE_LOOK_S)
    try:
        await store.move(
            workflow_id, [Stage.QUEUED], stage=str(Stage.RUNNING), message="steps are running"
        )
        done = await Driver(store, office.inner, workflow_id, holder).turn()
    finally:
        # Before the next turn begins, perhaps in another worker.
        await store.lease(workflow_id).release(holder)
    if not done:
        raise ctx.replace(process(workflow_id))
    return await _finish(store, workflow_id)


async def _finish(store: WorkflowStore, workflow_id: str) -> dict[str, Any]:
    workflow = await store.get(workflow_id)
    good = sum(state.status == "completed" for state in workflow.states.values())
    total = len(workflow.plan.steps)
    stage = Stage.COMPLETED if good == total else Stage.FAILED
    await store.move(
        workflow_id,
        [Stage.RUNNING],
        stage=str(stage),
        finished_ms=now_ms(),
        message=f"{good} of {total} steps succeeded",
    )
    return _summary(await store.get(workflow_id))


def _summary(workflow: Workflow) -> dict[str, Any]:
    states = workflow.states
    return {
        "workflow_id": public_id(workflow.id),
        "status": str(workflow.stage),
        "steps": {
            step.id: states[number].status if number in states else "waiting"
            for number, step in enumerate(workflow.plan.steps)
        },
    }

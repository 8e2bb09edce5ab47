"""What clients ask of workflows, without HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crucible.broker.wire.ids import new_id
from crucible.errors import (
    BrokerError,
    BrokerUnavailable,
    ConflictError,
    NotFound,
    NothingStored,
)
from crucible.evaluation.record import scoped_id, task_id_of
from crucible.validation import quoted
from crucible.workflows.handing import fingerprint
from crucible.workflows.record import Plan, Stage, Workflow, eval_id_of, scoped_eval_id
from crucible.workflows.request import checked_steps
from crucible.workflows.store import WorkflowStore, now_ms
from crucible.workflows.tasks import PROCESS, QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.broker import Publisher
    from crucible.broker.control.client import ControlClient
    from crucible.broker.results.meta import Meta
    from crucible.evaluation.allowance import Allowance
    from crucible.evaluation.service import EvaluationService
    from crucible.identity.principal import Principal
    from crucible.models import Evaluation, Tier
    from crucible.workflows.request import WorkflowRequest


class WorkflowService:
    """Serves tenants. Every method raises BrokerError if the task queue server does not answer.

    Args:
        store: keeps workflows.
        evaluations: knows the evaluations of their steps.
        publisher: queues their tasks.
        control: cancels evaluations.
        allowed: what callers of each tier may ask for.
    """

    def __init__(
        self,
        store: WorkflowStore,
        evaluations: EvaluationService,
        publisher: Publisher,
        control: ControlClient,
        allowed: Mapping[Tier | None, Allowance],
    ) -> None:
        self._store = store
        self._evaluations = evaluations
        self._publisher = publisher
        self._control = control
        self._allowed = allowed

    async def submit(self, caller: Principal, asked: WorkflowRequest) -> tuple[Workflow, bool]:
        """Queue a workflow.

        Returns:
            It, and whether it is new: the same request under the same id finds the first one.

        Raises:
            InputError: a step could never run, or waits for itself; its place is named.
            ConflictError: the id was used for something else.
            QueueFull: the queue holds as many messages as it may.
        """
        steps = checked_steps(asked, self._allowed[caller.tier])
        workflow_id = scoped_id(caller.tenant, asked.workflow_id or new_id())
        plan = Plan(
            digest=fingerprint(asked),
            created_ms=now_ms(),
            steps=steps,
            name=asked.name,
            metadata=asked.metadata,
        )
        kept = await self._store.create(workflow_id, plan)
        if kept.plan.digest != plan.digest:
            raise ConflictError("workflow_id", "was used before with different content")
        try:
            await self._publisher.send_task(
                PROCESS,
                [workflow_id],
                task_id=kept.task_id,
                queue=QUEUE,
                # Also after an api that died in between: the same request queues it once.
                idempotency_key=kept.task_id,
            )
        except BrokerError as error:
            new = kept.plan.created_ms == plan.created_ms
            if new and (
                not isinstance(error, BrokerUnavailable) or isinstance(error, NothingStored)
            ):
                await self._store.forget(workflow_id)
            raise
        return kept, kept.plan.created_ms == plan.created_ms

    async def look_up(self, caller: Principal, workflow_id: str) -> Workflow:
        """One workflow.

        Raises:
            NotFound: the caller has no such workflow.
        """
        if ":" in workflow_id:
            raise NotFound(f"no workflow has the id {quoted(workflow_id, 64)}")
        return await self._store.get(scoped_id(caller.tenant, workflow_id))

    async def evaluations(
        self, caller: Principal, workflow: Workflow
    ) -> dict[int, Evaluation | None]:
        """The evaluations of steps that were submitted; None for those that are not kept."""

        async def one(number: int) -> Evaluation | None:
            try:
                return await self._evaluations.look_up(caller, eval_id_of(workflow.id, number))
            except NotFound:
                return None

        numbers = [n for n, state in workflow.states.items() if state.status != "skipped"]
        return dict(zip(numbers, await asyncio.gather(*map(one, numbers)), strict=True))

    async def stored(self, workflow: Workflow) -> Meta | None:
        """What Celery clients find of a workflow's task; None before any worker had it."""
        return await self._publisher.results.meta(workflow.task_id)

    async def cancel(self, caller: Principal, workflow_id: str) -> Workflow:
        """Cancel all that is left of a workflow; one that has ended stays as it is.

        Raises:
            NotFound: the caller has no such workflow.
        """
        scoped = (await self.look_up(caller, workflow_id)).id
        before, made = await self._store.move(
            scoped,
            [Stage.QUEUED, Stage.RUNNING],
            stage=str(Stage.CANCELLED),
            finished_ms=now_ms(),
            message="it was cancelled",
        )
        if made or before.stage is Stage.CANCELLED:
            # Whoever asks again completes what an api that died in between began. Nothing is
            # submitted any more that is not known by now.
            workflow = await self._store.get(scoped)
            left = [
                task_id_of(scoped_eval_id(scoped, number))
                for number, state in workflow.states.items()
                if state.status == "submitted"
            ]
            await self._control.revoke([*left, workflow.task_id], terminate=True, final=True)
        return await self._store.get(scoped)

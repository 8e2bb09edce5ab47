"""A workflow as clients see it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crucible.evaluation.record import public_id, task_id_of
from crucible.evaluation.view import text_time
from crucible.models import Evaluation  # noqa: TC001 - msgspec reads the annotations
from crucible.workflows.record import TASK_ID_PREFIX, Workflow, eval_id_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.workflows.record import StepState


class StepShown(msgspec.Struct, frozen=True, kw_only=True):
    """One step.

    Attributes:
        id: its id.
        status: ``waiting``, ``queued``, ``running``, ``retrying``, ``completed``, ``failed``,
            ``cancelled`` or ``skipped`` (a step it waits for did not succeed).
        verdict: of its evaluation, or null.
        message: why it failed or was skipped, or null.
        after: the steps it waits for.
        eval_id: its evaluation, or null before there is one.
        task_id: the task of that.
        output: what it printed; empty before it has ended, or once that is not kept any more.
        error: what it wrote to standard error.
        exit_code: the program's own, or null.
        evaluation: the whole evaluation, or null.
    """

    id: str
    status: str
    verdict: str | None
    message: str | None
    after: list[str]
    eval_id: str | None
    task_id: str | None
    output: str
    error: str
    exit_code: int | None
    evaluation: Evaluation | None


class WorkflowShown(msgspec.Struct, frozen=True, kw_only=True):
    """One workflow.

    Attributes:
        workflow_id: its id.
        task_id: the id of its task.
        name: for people.
        status: ``queued``, ``running``, ``completed`` (every step succeeded), ``failed`` or
            ``cancelled``.
        message: the same in one sentence.
        progress: percent; it never falls.
        steps: by their ids, in the order of the request.
        created_at: when it was made.
        finished_at: when it ended, or null.
        updated_at: when anything of this last changed.
        metadata: the client's own.
        href: where it is.
    """

    workflow_id: str
    task_id: str
    name: str
    status: str
    message: str
    progress: float
    steps: dict[str, StepShown]
    created_at: str
    finished_at: str | None
    updated_at: str
    metadata: dict[str, Any] | None
    href: str


def shown_of(workflow: Workflow, evaluations: Mapping[int, Evaluation | None]) -> WorkflowShown:
    """A workflow with its public ids.

    Args:
        workflow: it.
        evaluations: of its steps, by their numbers.
    """
    plan, own = workflow.plan, public_id(workflow.id)
    return WorkflowShown(
        workflow_id=own,
        task_id=f"{TASK_ID_PREFIX}{own}",
        name=plan.name,
        status=workflow.stage,
        message=workflow.message,
        progress=workflow.progress,
        steps={
            step.id: _step(workflow, number, evaluations.get(number))
            for number, step in enumerate(plan.steps)
        },
        created_at=text_time(plan.created_ms),
        finished_at=None if workflow.finished_ms is None else text_time(workflow.finished_ms),
        updated_at=text_time(workflow.updated_ms),
        metadata=plan.metadata,
        href=href_of(workflow.id),
    )


def _step(workflow: Workflow, number: int, evaluation: Evaluation | None) -> StepShown:
    step, state = workflow.plan.steps[number], workflow.states.get(number)
    submitted = state is not None and state.status != "skipped"
    eval_id = eval_id_of(workflow.id, number) if submitted else None
    verdict = (state and state.verdict) or (evaluation.verdict if evaluation else None)
    return StepShown(
        id=step.id,
        status=_status(workflow, state, evaluation),
        verdict=str(verdict) if verdict else None,
        message=(state.message or None) if state else None,
        after=step.after,
        eval_id=eval_id,
        task_id=None if eval_id is None else task_id_of(eval_id),
        output=evaluation.output if evaluation else "",
        error=evaluation.error if evaluation else "",
        exit_code=evaluation.exit_code if evaluation else None,
        evaluation=evaluation,
    )


def _status(workflow: Workflow, state: StepState | None, evaluation: Evaluation | None) -> str:
    cancelled = workflow.stage == "cancelled"
    if state is None:
        return "cancelled" if cancelled else "waiting"
    if state.status != "submitted":
        return state.status
    if evaluation is None:
        return "cancelled" if cancelled else "queued"
    return evaluation.status


def href_of(workflow_id: str) -> str:
    """Where a workflow is."""
    return f"/api/v1/workflows/{public_id(workflow_id)}"

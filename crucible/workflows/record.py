"""What is kept of a workflow."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.evaluation.record import public_id, scoped_id, tenant_of
from crucible.workflows.request import Step  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Ids of the Celery tasks of workflows begin with this, and those of their evaluations.
TASK_ID_PREFIX, EVAL_ID_PREFIX = "workflow-", "wf-"
#: Seconds a workflow is kept after its last change.
KEPT_S = 7 * 86_400


class Stage(enum.StrEnum):
    """Where a workflow stands."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: No further change in one of these.
OVER = frozenset({Stage.COMPLETED, Stage.FAILED, Stage.CANCELLED})


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What does not change once a workflow is there.

    Attributes:
        digest: fingerprint of the request.
        created_ms: milliseconds since the epoch.
        steps: in the order of the request.
        name: for people.
        metadata: the client's own.
    """

    digest: bytes
    created_ms: int
    steps: list[Step]
    name: str = ""
    metadata: dict[str, Any] | None = None


class StepState(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """How a step stands that is not waiting any more.

    Attributes:
        status: ``submitted``, ``completed`` (it did what was asked), ``failed``, ``skipped``.
        verdict: of its evaluation; empty without one.
        message: why it failed or was skipped.
    """

    status: str
    verdict: str = ""
    message: str = ""


class Workflow(msgspec.Struct, kw_only=True):
    """A workflow as it is now.

    Attributes:
        id: its scoped id.
        plan: what does not change.
        stage: where it stands.
        states: of steps that do not wait any more, by their numbers.
        finished_ms: when it ended; None before.
        updated_ms: when anything of this last changed.
        message: where it stands, in one sentence.
    """

    id: str
    plan: Plan
    stage: Stage
    states: dict[int, StepState]
    finished_ms: int | None
    updated_ms: int
    message: str

    @property
    def ended(self) -> int:
        """Steps that will not change any more."""
        return sum(state.status != "submitted" for state in self.states.values())

    @property
    def progress(self) -> float:
        """Percent; 100 means that it has ended."""
        if self.stage in OVER:
            return 100.0
        return round(99.0 * self.ended / len(self.plan.steps), 2)

    @property
    def task_id(self) -> str:
        """The id of its task, as everything inside knows it."""
        return f"{TASK_ID_PREFIX}{self.id}"


def eval_id_of(workflow_id: str, step: int) -> str:
    """The public id of the evaluation of a step: always the same, so that none runs twice."""
    return f"{EVAL_ID_PREFIX}{public_id(workflow_id)}-{step}"


def scoped_eval_id(workflow_id: str, step: int) -> str:
    """The same with its tenant."""
    return scoped_id(tenant_of(workflow_id), eval_id_of(workflow_id, step))


_plan_decoder = msgspec.msgpack.Decoder(Plan)
_state_decoder = msgspec.msgpack.Decoder(StepState)
encode = msgspec.msgpack.Encoder().encode


def workflow_of(workflow_id: str, fields: Mapping[bytes, bytes]) -> Workflow:
    """A workflow from the fields of its hash."""
    return Workflow(
        id=workflow_id,
        plan=_plan_decoder.decode(fields[b"plan"]),
        stage=Stage(fields[b"stage"].decode()),
        states={
            int(name.removeprefix(b"step:")): _state_decoder.decode(value)
            for name, value in fields.items()
            if name.startswith(b"step:")
        },
        finished_ms=int(fields[b"finished_ms"]) if b"finished_ms" in fields else None,
        updated_ms=int(fields[b"updated_ms"]),
        message=fields[b"message"].decode(),
    )

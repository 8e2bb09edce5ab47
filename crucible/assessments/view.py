"""An assessment as clients see it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from crucible.assessments.record import OVER, Head, Stage, task_id_of
from crucible.evaluation.record import public_id
from crucible.evaluation.view import text_time


class AssessmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How far an assessment is; its task's state ``PROGRESS`` has the same.

    Attributes:
        progress: percent; it never falls.
        current_step: ``created``, ``queued``, ``running cases``, ``writing reports``,
            ``completed``, ``cancelled`` or ``failed``.
        message: the same in one sentence.
        updated_at: when that was last true.
    """

    progress: float
    current_step: str
    message: str
    updated_at: str


class AssessmentShown(msgspec.Struct, frozen=True, kw_only=True):
    """One assessment.

    Attributes:
        assessment_id: its id.
        task_id: the id of its task, at ``/tasks/{id}`` and for ``AsyncResult``.
        name: for people.
        status: ``created``, ``queued``, ``running``, ``completed``, ``failed`` or ``cancelled``.
        draft: cases may still be added.
        progress: percent.
        current_step: what it does now.
        message: the same in one sentence.
        updated_at: when that was last true.
        info: the same four, as tasks have them.
        cases: how many.
        runs: how many evaluations those take.
        runs_ended: how many of them have ended.
        runs_passed: how many of those passed.
        score: 0 to 1; null before it has completed.
        passed: whether it passed; null before it has completed.
        passed_cases: how many cases passed; null before it has completed.
        created_at: when it was made.
        started_at: when it was started, or null.
        finished_at: when it ended, or null.
        metadata: the client's own.
        href: where it is.
        report: where its report is; null before it has completed.
    """

    assessment_id: str
    task_id: str
    name: str
    status: str
    draft: bool
    progress: float
    current_step: str
    message: str
    updated_at: str
    info: AssessmentInfo
    cases: int
    runs: int
    runs_ended: int
    runs_passed: int
    score: float | None
    passed: bool | None
    passed_cases: int | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    metadata: dict[str, Any] | None
    href: str
    report: str | None


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a 202: an assessment was started.

    Attributes:
        assessment_id: its id.
        task_id: the id of its task.
        status: where it stands.
        message: where to look.
        href: the same for programs.
    """

    assessment_id: str
    task_id: str
    status: str
    message: str
    href: str


def info_of(head: Head) -> AssessmentInfo:
    """How far an assessment is."""
    return AssessmentInfo(
        progress=head.progress,
        current_step=head.step,
        message=head.message,
        updated_at=text_time(head.updated_ms),
    )


def shown_of(head: Head) -> AssessmentShown:
    """An assessment with its public ids."""
    info, plan, href = info_of(head), head.plan, href_of(head.id)
    return AssessmentShown(
        assessment_id=public_id(head.id),
        task_id=task_id_of(public_id(head.id)),
        name=plan.name,
        status=head.stage,
        draft=head.draft and head.stage is Stage.CREATED,
        progress=info.progress,
        current_step=info.current_step,
        message=info.message,
        updated_at=info.updated_at,
        info=info,
        cases=head.cases,
        runs=head.runs,
        runs_ended=head.ended,
        runs_passed=head.passed_runs,
        score=head.score,
        passed=head.passed,
        passed_cases=head.passed_cases,
        created_at=text_time(plan.created_ms),
        started_at=None if head.started_ms is None else text_time(head.started_ms),
        finished_at=None if head.finished_ms is None else text_time(head.finished_ms),
        metadata=plan.metadata,
        href=href,
        report=f"{href}/report" if head.stage is Stage.COMPLETED else None,
    )


def started_of(head: Head) -> Started:
    """The answer to ``start``."""
    href = href_of(head.id)
    runs = "runs in the background; its progress"
    now = f"is {head.stage} already; what came of it" if head.stage in OVER else runs
    return Started(
        assessment_id=public_id(head.id),
        task_id=task_id_of(public_id(head.id)),
        status=head.stage,
        message=f"The assessment {now} is at {href}.",
        href=href,
    )


def href_of(assessment_id: str) -> str:
    """Where an assessment is."""
    return f"/api/v1/assessments/{public_id(assessment_id)}"

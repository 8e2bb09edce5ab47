"""A task of the legacy queue as a Celery result, so that both become an evaluation the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.results.meta import (
    FAILURE,
    PENDING,
    REVOKED,
    STARTED,
    SUCCESS,
    Meta,
    revoked_result,
)
from crucible.evaluation.record import task_id_of
from crucible.evaluation.result import result_of
from crucible.legacy.wire import TaskResult, TaskState, TaskView

if TYPE_CHECKING:
    from crucible.models import Outcome

#: ``queue`` of an evaluation of the legacy queue, which has no queues to choose from.
LEGACY_QUEUE = "legacy"


def meta_of_task(task: TaskView) -> Meta:
    """Where a legacy task stands, as a Celery worker would have stored it."""
    status, result = _state_of(task)
    return Meta(
        task_id=task_id_of(task.id), status=status, result=result, date_done=task.finished_at
    )


def _state_of(task: TaskView) -> tuple[str, Any]:
    match task.status:
        case TaskState.COMPLETED if isinstance(task, TaskResult) and task.outcome is not None:
            return SUCCESS, _result(task, task.outcome)
        case TaskState.QUEUED:
            return PENDING, None
        case TaskState.CANCELLED:
            return REVOKED, revoked_result("revoked")
        case TaskState.FAILED:
            return FAILURE, {"exc_type": "LegacyTaskFailed", "exc_message": [task.message]}
        case _:
            return STARTED, {"hostname": task.worker}


def _result(task: TaskResult, outcome: Outcome) -> dict[str, Any]:
    ended = result_of(
        task.id,
        outcome,
        worker=task.worker,
        retry_count=0,
        started_at=task.started_at or task.created_at,
        finished_at=task.finished_at or task.created_at,
    )
    plain: dict[str, Any] = msgspec.to_builtins(ended)
    return plain

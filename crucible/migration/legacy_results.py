"""A task of the legacy queue in the words of a Celery result, so that one view serves both."""

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
from crucible.evaluation.view import evaluation_of
from crucible.legacy.wire import TaskResult, TaskState, TaskView

if TYPE_CHECKING:
    from crucible.evaluation.record import Record
    from crucible.models import Evaluation, Outcome

#: The queue an evaluation of the legacy side names: there is one line only.
LEGACY_QUEUE = "legacy"


def meta_of(task: TaskView) -> Meta:
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


def lost_by_legacy(eval_id: str, record: Record) -> Evaluation:
    """An evaluation that the legacy queue does not know any more and nobody saw end."""
    view = evaluation_of(eval_id, record, None)
    view.message = (
        "the legacy queue lost it; `crucible migration verify --repair` or the same request "
        "again submits it again"
    )
    return view


def encode_end(meta: Meta) -> bytes:
    """An ended task as it is kept beside the results of Celery tasks."""
    return msgspec.json.encode(meta)


def decode_end(data: bytes) -> Meta:
    """The inverse of ``encode_end``."""
    return msgspec.json.decode(data, type=Meta)

"""A Celery task as the task API shows it. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.results.meta import (
    EXCEPTION,
    FAILURE,
    PENDING,
    READY,
    RETRY,
    REVOKED,
    STARTED,
    SUCCESS,
)
from crucible.evaluation.view import exception_text, utc_text
from crucible.models import Status, Verdict

if TYPE_CHECKING:
    from crucible.broker.results.meta import Meta
    from crucible.models import Evaluation


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How far a task is.

    Attributes:
        progress: percent; what the task says itself, else 0 before its end and 100 after it.
        current_step: what the task says it does, else its state in words.
        message: one sentence for people; null where there is none.
        updated_at: when this was last known to change; null where nobody said.
    """

    progress: float
    current_step: str
    message: str | None
    updated_at: str | None


class TaskShown(msgspec.Struct, frozen=True, kw_only=True):
    """One task.

    Attributes:
        task_id: its id.
        name: the task's registered name; null where only its result is left.
        eval_id: the evaluation it is; null for other tasks.
        state: as Celery has it: PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED or the task's
            own, such as PROGRESS.
        status: the same; Celery has both names for it.
        ready: it has ended.
        queue: where its message is or was; null where that is not known.
        worker: node name of the worker that runs or ran it; null where that is not known.
        info: how far it is.
        created_at: when it was submitted; null where that is not known.
        date_done: when it ended; null before that.
    """

    task_id: str
    name: str | None
    eval_id: str | None
    state: str
    status: str
    ready: bool
    queue: str | None
    worker: str | None
    info: TaskInfo
    created_at: str | None = None
    date_done: str | None = None


class TaskOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a task.

    Attributes:
        task_id: its id.
        state: as in ``TaskShown``.
        status: the same.
        ready: it has ended.
        result: what it returned, of an evaluation the evaluation; null before its end.
        error: what it failed with; null where it did not.
        traceback: text of the worker's traceback; null where there is none.
        date_done: when it ended; null before that.
    """

    task_id: str
    state: str
    status: str
    ready: bool
    result: Any
    error: str | None
    traceback: str | None
    date_done: str | None


_STEPS = {
    PENDING: "queued", "RECEIVED": "queued", STARTED: "running", RETRY: "retrying",
    SUCCESS: "completed", FAILURE: "failed", REVOKED: "cancelled",
}  # fmt: skip
#: The state of an evaluation without a stored result: it waits, a legacy queue has it, or only the
#: history has it.
_STATES = {
    Status.QUEUED: PENDING,
    Status.RUNNING: STARTED,
    Status.RETRYING: RETRY,
    Status.COMPLETED: SUCCESS,
    Status.FAILED: SUCCESS,
    Status.CANCELLED: REVOKED,
}
#: The same of those that no task brought to an end: a task that was to stop a program succeeds.
_UNRUN = {Verdict.INTERNAL_ERROR: FAILURE, Verdict.EXPIRED: REVOKED}


def task_of(
    task_id: str, meta: Meta | None, *, name: str | None = None, queue: str | None = None
) -> TaskShown:
    """A task that is no evaluation.

    Args:
        task_id: its id.
        meta: what is stored of it.
        name: of the task.
        queue: where its message is.
    """
    extended = meta.extended if meta is not None else {}
    state = meta.status if meta is not None else PENDING
    return TaskShown(
        task_id=task_id,
        name=name or extended.get("name"),
        eval_id=None,
        state=state,
        status=state,
        ready=state in READY,
        queue=queue or extended.get("queue"),
        worker=_worker_of(meta),
        info=_info(state, meta, None),
        date_done=_done_at(meta),
    )


def evaluation_task(evaluation: Evaluation, meta: Meta | None, name: str) -> TaskShown:
    """The task of an evaluation.

    Args:
        evaluation: with its public ids.
        meta: what is stored of its task.
        name: of the task.
    """
    state = meta.status if meta is not None else _state_of(evaluation)
    return TaskShown(
        task_id=evaluation.task_id,
        name=name,
        eval_id=evaluation.eval_id,
        state=state,
        status=state,
        ready=state in READY,
        queue=evaluation.queue or None,
        worker=evaluation.worker,
        info=_info(state, meta, evaluation),
        created_at=evaluation.created_at,
        date_done=evaluation.finished_at,
    )


def _state_of(evaluation: Evaluation) -> str:
    unrun = None if evaluation.verdict is None else _UNRUN.get(evaluation.verdict)
    return unrun or _STATES[evaluation.status]


def outcome_of(shown: TaskShown, meta: Meta | None, evaluation: Evaluation | None) -> TaskOutcome:
    """What became of a task."""
    result: Any = evaluation if shown.ready else None
    if evaluation is None and meta is not None and shown.state == SUCCESS:
        result = meta.result
    failed = meta is not None and meta.ready and shown.state in EXCEPTION
    error = exception_text(meta.result) if meta is not None and failed else None
    if meta is None and evaluation is not None and shown.state in EXCEPTION:
        error = evaluation.message
    return TaskOutcome(
        task_id=shown.task_id,
        state=shown.state,
        status=shown.state,
        ready=shown.ready,
        result=result,
        error=error,
        traceback=meta.traceback if meta is not None and failed else None,
        date_done=shown.date_done,
    )


def _info(state: str, meta: Meta | None, evaluation: Evaluation | None) -> TaskInfo:
    # A state of the task's own carries what the task says; those of Celery carry other things.
    own = meta.result if meta is not None and state not in _STEPS else None
    said = own if isinstance(own, dict) else {}
    message = said.get("message")
    if message is None and evaluation is not None:
        message = evaluation.message
    if message is None and meta is not None and state in EXCEPTION:
        message = exception_text(meta.result)
    return TaskInfo(
        progress=_percent(said, state),
        current_step=str(said.get("current_step", _STEPS.get(state, state.lower()))),
        message=None if message is None else str(message),
        updated_at=_updated_at(said, meta, evaluation),
    )


def _percent(said: dict[str, Any], state: str) -> float:
    """What the task says: ``progress``, or ``done`` (``current``) of ``total``."""
    progress = _number(said.get("progress"))
    done, total = _number(said.get("done", said.get("current"))), _number(said.get("total"))
    if progress is None and done is not None and total:
        progress = 100.0 * done / total
    if progress is None:
        return 100.0 if state in READY else 0.0
    return min(100.0, max(0.0, progress))


def _number(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def _updated_at(
    said: dict[str, Any], meta: Meta | None, evaluation: Evaluation | None
) -> str | None:
    if isinstance(said.get("updated_at"), str):
        return str(said["updated_at"])
    if evaluation is not None:
        return evaluation.finished_at or evaluation.started_at or evaluation.created_at
    return _done_at(meta)


def _done_at(meta: Meta | None) -> str | None:
    return None if meta is None or meta.date_done is None else utc_text(meta.date_done)


def _worker_of(meta: Meta | None) -> str | None:
    if meta is None:
        return None
    hostname = meta.result.get("hostname") if isinstance(meta.result, dict) else None
    worker = meta.extended.get("worker") or (hostname if meta.status == STARTED else None)
    return worker if isinstance(worker, str) else None

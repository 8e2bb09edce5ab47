"""The evaluation a client sees, made of its record and the stored result of its task."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.results.meta import FAILURE, PENDING, RETRY, REVOKED, SUCCESS
from crucible.evaluation.record import public_id, task_id_of
from crucible.evaluation.result import EvalResult
from crucible.models import Evaluation, Status, TestProgress, Timing, Verdict

if TYPE_CHECKING:
    from crucible.broker.results.meta import Meta
    from crucible.evaluation.record import Record


def evaluation_of(eval_id: str, record: Record | None, meta: Meta | None) -> Evaluation:
    """What is known of one evaluation.

    Args:
        eval_id: its scoped id.
        record: its record; None for a task that a Celery client sent.
        meta: the stored Celery result; None while nothing is stored.
    """
    view = Evaluation(eval_id=eval_id, task_id=task_id_of(eval_id), status=Status.QUEUED)
    if record is not None:
        view.queue, view.language = record.queue, record.language
        view.queue_system = record.queue_system
        view.created_at = text_time(record.created_ms)
        if record.metadata is not None:
            view.metadata = record.metadata
        if record.retry_of:
            view.retry_of = record.retry_of
    if view.queue_system == "celery" or (record is not None and record.shadow):
        view.celery_task_id = view.task_id
    if meta is not None:
        _add_meta(view, meta)
    if record is not None and view.finished_at is not None:
        _add_timing(view, record.created_ms)
    return view


def shown(view: Evaluation) -> Evaluation:
    """An evaluation with the ids by which clients know it, in place of those used inside."""
    view.eval_id = public_id(view.eval_id)
    view.task_id = task_id_of(view.eval_id)
    return view


def _add_meta(view: Evaluation, meta: Meta) -> None:
    state, result = meta.status, meta.result
    view.retry_count = _retries_of(meta)
    if state == SUCCESS:
        if not _add_result(view, result):
            view.status, view.verdict = Status.FAILED, Verdict.INTERNAL_ERROR
            view.message = "the task stored something that is not the result of an evaluation"
    elif state == FAILURE:
        view.status, view.verdict = Status.FAILED, Verdict.INTERNAL_ERROR
        view.message = exception_text(result)
    elif state == REVOKED:
        if isinstance(result, dict):
            _add_result(view, result.get("left"))
        expired = "expired" in exception_text(result)
        view.status = Status.FAILED if expired else Status.CANCELLED
        view.verdict = Verdict.EXPIRED if expired else Verdict.CANCELLED
    elif state == RETRY:
        view.status = Status.RETRYING
        view.message = exception_text(result)
    elif state not in (PENDING, "RECEIVED"):
        view.status = Status.RUNNING
        view.worker = result.get("hostname") if isinstance(result, dict) else None
        _add_progress(view, result)
    if view.finished_at is None and meta.ready and meta.date_done is not None:
        view.finished_at = utc_text(meta.date_done)


def _add_progress(view: Evaluation, meta: object) -> None:
    """What a running evaluation reported: tests that are done, or what it has written so far."""
    if (progress := _progress_of(meta)) is not None:
        view.progress = progress
    elif isinstance(meta, dict) and isinstance(shown := meta.get("output"), str):
        view.output = shown


def _progress_of(meta: object) -> TestProgress | None:
    """How far an evaluation is, from what was stored with ``PROGRESS``; None if it is not that."""
    try:
        return msgspec.convert(meta, TestProgress)
    except msgspec.ValidationError:
        return None


def _add_result(view: Evaluation, result: object) -> bool:
    """Whether it is the result of an evaluation, then in the view."""
    try:
        ended = msgspec.convert(result, EvalResult)
    except msgspec.ValidationError:
        return False
    for name in _SHARED:
        setattr(view, name, getattr(ended, name))
    view.timing_ms = Timing(sandbox=ended.timing_ms.sandbox, run=ended.timing_ms.run)
    return True


#: Fields that mean the same in the task's result and in the view.
_SHARED = tuple(
    name
    for name in EvalResult.__struct_fields__
    if name in Evaluation.__struct_fields__ and name not in ("eval_id", "timing_ms")
)


def _add_timing(view: Evaluation, created_ms: int) -> None:
    """Queue and total time; clocks of two hosts may differ, so neither is below what is known."""
    run = view.timing_ms or Timing()
    started = _ms(view.started_at)
    queued = max(0, started - created_ms) if started is not None else 0
    finished = _ms(view.finished_at)
    total = max(0, finished - created_ms) if finished is not None else 0
    view.timing_ms = Timing(queued=queued, sandbox=run.sandbox, run=run.run, total=total)


def _retries_of(meta: Meta) -> int:
    """Retries of a task that did not return, as far as its stored state says.

    Errors of executors carry them (``errors.ExecutorError``), and so does the state of a further
    try; of others only a backend that keeps extended results knows.
    """
    if isinstance(meta.result, dict):
        retries = meta.result.get("retries", _split(meta.result)[1])
        if isinstance(retries, int):
            return retries
    kept = meta.extended.get("retries")
    return kept if isinstance(kept, int) else 0


def _split(error: dict[str, Any]) -> tuple[object, int | None]:
    """What a stored error says, and the retries that it carries."""
    message = error.get("exc_message")
    if not str(error.get("exc_module")).startswith("crucible."):
        return message, None
    match message:
        case [detail, int(retries)]:
            return [detail], retries
        case _:
            return message, None


def exception_text(result: object) -> str:
    """A stored exception in one line."""
    if not isinstance(result, dict):
        return str(result)
    message, _ = _split(result)
    shown = ", ".join(map(str, message)) if isinstance(message, list) else str(message)
    return f"{result.get('exc_type')}: {shown}"


def now_text() -> str:
    """The time as the HTTP contract writes it: UTC with milliseconds and ``Z``."""
    return _text_of(datetime.now(UTC))


def text_time(ms: int) -> str:
    """Milliseconds since the epoch as the contract writes times."""
    return _text_of(datetime.fromtimestamp(ms / 1000, UTC))


def utc_text(text: str) -> str | None:
    """Celery's ``date_done``, which 5.3 writes without an offset, as the contract writes it."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _text_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _text_of(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ms(text: str | None) -> int | None:
    return None if text is None else int(datetime.fromisoformat(text).timestamp() * 1000)

"""The events of evaluations (``events.event``), made of what api and workers have at hand. Pure."""

from __future__ import annotations

import base64
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crucible.broker.wire.retry import attempt_of, parse
from crucible.errors import InputError
from crucible.evaluation.record import TASK_ID_PREFIX, public_id, tenant_of
from crucible.evaluation.result import EvalResult
from crucible.events.event import (
    ATTEMPT,
    MAX_PROGRESS,
    QUEUED,
    RETRYING,
    RUNNING,
    Event,
    Transition,
    sequence,
    terminal_sequence,
)
from crucible.models import ENDED, Evaluation, Status, Verdict

if TYPE_CHECKING:
    from typing import Literal

    from crucible.evaluation.submission import Draft

#: Characters of a message that an event keeps.
_MESSAGE = 500
_NEW = sequence(QUEUED)


class Delivery(NamedTuple):
    """One delivery of an evaluation's message to a worker.

    Attributes:
        eval_id: the scoped id; empty where a task runs several.
        queue: the queue it came from.
        worker: node name.
        retries: how often the task was tried before.
        attempt: how often it was started anew after it had ended.
        deliveries: deliveries of this try that ended with their worker.
        started_ms: when it started, milliseconds since the epoch; None before.
        traceparent: of its trace; empty where it is not traced.
    """

    eval_id: str
    queue: str
    worker: str | None
    retries: int = 0
    attempt: int = 0
    deliveries: int = 0
    started_ms: int | None = None
    traceparent: str = ""


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def scoped_of(task_id: str) -> str:
    """The scoped id of the evaluation whose task it is; empty for other tasks."""
    if not task_id.startswith(TASK_ID_PREFIX):
        return ""
    scoped = task_id[len(TASK_ID_PREFIX) :]
    return scoped if is_scoped(scoped) else ""


def is_scoped(eval_id: str) -> bool:
    """Whether it can be the scoped id of an evaluation: anybody may send any."""
    try:
        tenant_of(eval_id)
    except InputError:
        return False
    return bool(eval_id)


def queued(draft: Draft, queue: str, queue_system: Literal["celery", "legacy"] = "celery") -> Event:
    """A submission was queued."""
    asked, eval_id, code = draft.asked, draft.eval_id, draft.asked.code
    return Event(
        public_id(eval_id),
        _NEW,
        draft.created_ms,
        Transition.QUEUED,
        "queued",
        tenant_of(eval_id),
        queue,
        queue_system,
        language=asked.language,
        environment=asked.environment,
        priority=asked.priority,
        code_bytes=len(code) if code.isascii() else len(code.encode()),
        metadata=asked.metadata,
        traceparent=draft.traceparent,
    )


def queued_again(delivery: Delivery) -> Event:
    """An evaluation that had ended was started anew."""
    seq = sequence(QUEUED, attempt=delivery.attempt, retries=delivery.retries)
    return _of(delivery, seq, Transition.QUEUED, Status.QUEUED)


def replayed(eval_id: str, queue: str, raw: bytes) -> Delivery:
    """The next delivery of a dead letter's message.

    Args:
        eval_id: the scoped id.
        queue: where it went.
        raw: the message as it was in the letter.
    """
    headers = parse(raw).get("headers")
    retries = headers.get("retries") if isinstance(headers, dict) else 0
    tried = retries if isinstance(retries, int) else 0
    return Delivery(eval_id, queue, None, tried, attempt_of(headers) + 1)


def running(delivery: Delivery) -> Event:
    """A worker is about to run it."""
    return _of(delivery, _seq(delivery, RUNNING), Transition.RUNNING, Status.RUNNING)


def progressed(delivery: Delivery, number: int, meta: Any) -> Event | None:
    """A running evaluation reported progress; None where it reported too often to be ordered.

    Args:
        delivery: that is running.
        number: of the report, from 1.
        meta: what the task stored; a number ``progress`` in it is percent.
    """
    if number > MAX_PROGRESS:
        return None
    percent = meta.get("progress") if isinstance(meta, dict) else None
    step = meta.get("current_step") if isinstance(meta, dict) else None
    return msgspec.structs.replace(
        _of(delivery, _seq(delivery, RUNNING + number), Transition.PROGRESS, Status.RUNNING),
        progress=percent if isinstance(percent, (int, float)) else None,
        message=None if step is None else str(step)[:_MESSAGE],
    )


def retrying(delivery: Delivery, error: BaseException | str) -> Event:
    """It waits for its next try."""
    return msgspec.structs.replace(
        _of(delivery, _seq(delivery, RETRYING), Transition.RETRYING, Status.RETRYING),
        message=_words(error),
    )


def ended(delivery: Delivery, result: Any) -> Event | None:
    """It ended with a result; None where that is none of an evaluation."""
    try:
        found = msgspec.convert(result, EvalResult)
    except msgspec.ValidationError:
        return None
    if not is_scoped(found.eval_id):
        return None
    usage, timing = found.usage, found.timing_ms
    # What a batch runs has ids of its own.
    delivery = delivery._replace(
        eval_id=found.eval_id,
        worker=found.worker or delivery.worker,
        started_ms=_ms_of(found.started_at) or delivery.started_ms,
    )
    return msgspec.structs.replace(
        _end(delivery, Transition(found.status.value), found.status, found.verdict),
        retry_count=found.retry_count,
        message=None if found.message is None else found.message[:_MESSAGE],
        sandbox_ms=timing.sandbox,
        run_ms=timing.run,
        wall_time_ms=usage.wall_time_ms,
        cpu_time_ms=usage.cpu_time_ms,
        memory_peak_kb=usage.memory_peak_kb,
        exit_code=found.exit_code,
        signal=found.signal,
        isolation=found.isolation,
        output_bytes=_size(found.output, found.output_encoding),
        error_bytes=_size(found.error, found.error_encoding),
        output_truncated=found.output_truncated,
    )


def failed(delivery: Delivery, error: BaseException | str) -> Event:
    """The platform could not run it."""
    return msgspec.structs.replace(
        _end(delivery, Transition.FAILED, Status.FAILED, Verdict.INTERNAL_ERROR),
        message=_words(error),
    )


def lost(eval_id: str, detail: str) -> Event:
    """It became a dead letter because its workers died."""
    return kept(failed(Delivery(eval_id, "", None), detail))


def kept(event: Event) -> Event:
    """A failure whose message is kept as a dead letter."""
    if event.transition is not Transition.FAILED:
        return event
    return msgspec.structs.replace(event, transition=Transition.DEAD_LETTER)


def cancelled(delivery: Delivery) -> Event:
    """It was cancelled, before or while it ran."""
    return _end(delivery, Transition.CANCELLED, Status.CANCELLED, Verdict.CANCELLED)


def expired(delivery: Delivery) -> Event:
    """Its time was up before a worker could run it."""
    return _end(delivery, Transition.EXPIRED, Status.FAILED, Verdict.EXPIRED)


def as_read(evaluation: Evaluation, tenant: str, last_seq: int = 0) -> Event | None:
    """The end of an evaluation as its result says; None where it has not ended.

    Args:
        evaluation: as clients see it.
        tenant: whose it is.
        last_seq: of the last event its reader has seen: of the attempt that the end is of.
    """
    if evaluation.status not in ENDED:
        return None
    usage, timing = evaluation.usage, evaluation.timing_ms
    expired_ = evaluation.verdict is Verdict.EXPIRED
    return Event(
        public_id(evaluation.eval_id),
        terminal_sequence(last_seq // ATTEMPT),
        _ms_of(evaluation.finished_at) or now_ms(),
        Transition.EXPIRED if expired_ else Transition(evaluation.status.value),
        evaluation.status.value,
        tenant,
        evaluation.queue or "",
        evaluation.queue_system,
        evaluation.retry_count,
        worker=evaluation.worker,
        verdict=evaluation.verdict.value if evaluation.verdict else None,
        message=None if evaluation.message is None else evaluation.message[:_MESSAGE],
        language=evaluation.language or "",
        metadata=evaluation.metadata or None,
        started_ms=_ms_of(evaluation.started_at),
        sandbox_ms=timing.sandbox if timing else None,
        run_ms=timing.run if timing else None,
        wall_time_ms=usage.wall_time_ms if usage else None,
        cpu_time_ms=usage.cpu_time_ms if usage else None,
        memory_peak_kb=usage.memory_peak_kb if usage else None,
        exit_code=evaluation.exit_code,
        signal=evaluation.signal,
        isolation=evaluation.isolation,
        output_bytes=_size(evaluation.output, evaluation.output_encoding),
        error_bytes=_size(evaluation.error, evaluation.error_encoding),
        output_truncated=evaluation.output_truncated,
    )


def _seq(delivery: Delivery, step: int) -> int:
    return sequence(
        step,
        attempt=delivery.attempt,
        retries=delivery.retries,
        deliveries=delivery.deliveries,
    )


def _of(delivery: Delivery, seq: int, transition: Transition, status: Status) -> Event:
    eval_id = delivery.eval_id
    return Event(
        public_id(eval_id),
        seq,
        now_ms(),
        transition,
        status.value,
        tenant_of(eval_id),
        delivery.queue,
        "celery",
        delivery.retries,
        delivery.attempt,
        delivery.deliveries,
        delivery.worker,
        traceparent=delivery.traceparent,
    )


def _end(delivery: Delivery, transition: Transition, status: Status, verdict: Verdict) -> Event:
    return msgspec.structs.replace(
        _of(delivery, terminal_sequence(delivery.attempt), transition, status),
        verdict=verdict.value,
        started_ms=delivery.started_ms,
    )


def _words(error: BaseException | str) -> str:
    try:
        return str(error)[:_MESSAGE]
    except Exception as failure:  # noqa: BLE001 - a foreign __str__ may raise anything
        return f"{type(error).__name__}: {type(failure).__name__}"


def _size(text: str, encoding: str) -> int:
    """Bytes of an output as the program wrote it."""
    if encoding == "base64":
        return len(base64.b64decode(text))
    return len(text) if text.isascii() else len(text.encode())


def _ms_of(text: str | None) -> int | None:
    return None if text is None else int(datetime.fromisoformat(text).timestamp() * 1000)

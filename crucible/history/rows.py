"""Rows of the tables, made of events. Pure.

Events of one evaluation are folded here before they are written, so that a batch writes a row once.
What folding does here, ``history.upserts`` does in SQL to rows of earlier batches: the event with
the highest ``seq`` says where the evaluation stands, the original submission says what it is.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crucible.events.event import TERMINAL, Event, Transition
from crucible.history.fitting import fitted, fitted_numbers, whole_or_none
from crucible.history.labels import label_rows
from crucible.models import LOCAL_TENANT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Row = dict[str, Any]
#: Identifies a row of ``evaluations``.
Key = tuple[str, str]

#: Columns that the original submission sets.
SUBMISSION = (
    "created_ms",
    "language",
    "environment",
    "priority",
    "code_bytes",
    "metadata",
    "queue",
)
#: Columns that the last event sets.
STATE = (
    "celery_task_id",
    "queue_system",
    "seq",
    "status",
    "verdict",
    "retry_count",
    "attempt",
    "worker",
    "message",
    "progress",
    "started_ms",
    "finished_ms",
    "sandbox_ms",
    "run_ms",
    "wall_time_ms",
    "cpu_time_ms",
    "memory_peak_kb",
    "exit_code",
    "signal",
    "isolation",
    "output_bytes",
    "error_bytes",
    "output_truncated",
)
_METADATA = 64 * 1024
_RUNNING = (Transition.RUNNING, Transition.PROGRESS)
_seq = attrgetter("seq")


class Batch(NamedTuple):
    """What is written in one transaction, in this order; each list has no key twice.

    Attributes:
        evaluations: rows by waves; a wave is written before the next one.
        transitions: of all events.
        attempts: the last state of each attempt.
        labels: of those that were submitted.
    """

    evaluations: Sequence[Sequence[Row]]
    transitions: Sequence[Row]
    attempts: Sequence[Row]
    labels: Sequence[Row]


def is_submission(event: Event) -> bool:
    """Whether it is the original submission, which alone says what was submitted."""
    return event.transition is Transition.QUEUED and bool(event.language)


def batch_of(events: Iterable[Event]) -> Batch:
    """The rows of some events, in the order of their keys so that no two writers wait crosswise."""
    by_evaluation: dict[Key, list[Event]] = {}
    for event in map(fitted, events):
        by_evaluation.setdefault((event.tenant, event.eval_id), []).append(event)
    waves: list[list[Row]] = []
    transitions: list[Row] = []
    attempts: list[Row] = []
    labels: dict[tuple[Any, ...], Row] = {}
    for key in sorted(by_evaluation):
        own = by_evaluation[key]
        submissions = [event for event in own if is_submission(event)]
        for number, part in enumerate(_by_system(own)):
            if number == len(waves):
                waves.append([])
            waves[number].append(_evaluation_row(part))
        transitions += _transition_rows(own)
        attempts += _attempt_rows(own)
        for event in submissions:
            labels.update((tuple(row.values()), row) for row in label_rows(event))
    return Batch(waves, transitions, attempts, [labels[key] for key in sorted(labels)])


def _by_system(events: list[Event]) -> Iterable[list[Event]]:
    """Events of one evaluation, divided where the queue system changes: those are not folded."""
    first = events[0].queue_system
    for event in events:
        if event.queue_system != first:
            break
    else:
        return (events,)
    parts = [[events[0]]]
    for event in events[1:]:
        if event.queue_system == parts[-1][0].queue_system:
            parts[-1].append(event)
        else:
            parts.append([event])
    return parts


def _evaluation_row(events: list[Event]) -> Row:
    """The row of ``evaluations`` as events of one queue system make it."""
    last = _last(events)
    submission = next(filter(is_submission, events), None)
    if submission is None:
        submitted: Row = dict.fromkeys(SUBMISSION)
        submitted["created_ms"] = min(event.at for event in events)
        submitted["queue"] = next((event.queue for event in events if event.queue), None)
        submitted["language"] = next((event.language for event in events if event.language), None)
    else:
        submitted = {
            "created_ms": submission.at,
            "language": submission.language,
            "environment": submission.environment,
            "priority": submission.priority,
            "code_bytes": whole_or_none(submission.code_bytes),
            "metadata": _json(submission),
            "queue": submission.queue or None,
        }
    return {
        "tenant": last.tenant,
        "eval_id": last.eval_id,
        "submitted": submission is not None,
        **submitted,
        **_state_of(last),
    }


def _last(events: list[Event]) -> Event:
    """The one with the highest ``seq``, and the first of several with the same."""
    return events[0] if len(events) == 1 else max(events, key=_seq)


def _state_of(event: Event) -> Row:
    sandbox, run, wall, cpu, memory, exit_code, number, output, error = fitted_numbers(
        event.sandbox_ms,
        event.run_ms,
        event.wall_time_ms,
        event.cpu_time_ms,
        event.memory_peak_kb,
        event.exit_code,
        event.signal,
        event.output_bytes,
        event.error_bytes,
    )
    return {
        "celery_task_id": task_id_of(event) if event.queue_system == "celery" else None,
        "queue_system": event.queue_system,
        "seq": event.seq,
        "status": event.status,
        "verdict": event.verdict,
        "retry_count": event.retry_count,
        "attempt": event.attempt,
        "worker": event.worker,
        "message": event.message,
        "progress": event.progress,
        "started_ms": _started_ms(event),
        "finished_ms": event.at if event.transition in TERMINAL else None,
        "sandbox_ms": sandbox,
        "run_ms": run,
        "wall_time_ms": wall,
        "cpu_time_ms": cpu,
        "memory_peak_kb": memory,
        "exit_code": exit_code,
        "signal": number,
        "isolation": event.isolation,
        "output_bytes": output,
        "error_bytes": error,
        "output_truncated": event.output_truncated,
    }


def task_id_of(event: Event) -> str:
    """The id of the Celery task of an evaluation (docs/events.md)."""
    scope = "" if event.tenant == LOCAL_TENANT else f"{event.tenant}:"
    return f"eval-{scope}{event.eval_id}"


def _transition_rows(events: list[Event]) -> list[Row]:
    """The rows of ``transitions`` of one evaluation, each key once, in order."""
    found: dict[tuple[int, str, str], Row] = {}
    for event in events:
        transition = event.transition._value_  # without the descriptor of enums, for each event
        key = (event.seq, event.queue_system, transition)
        if key not in found:
            found[key] = {
                "tenant": event.tenant,
                "eval_id": event.eval_id,
                "seq": event.seq,
                "queue_system": event.queue_system,
                "transition": transition,
                "at_ms": event.at,
                "worker": event.worker,
                "verdict": event.verdict,
                "message": event.message,
            }
    return [found[key] for key in sorted(found)]


def _attempt_rows(events: list[Event]) -> list[Row]:
    """The rows of ``attempts`` of one evaluation: of deliveries that a worker had, in order."""
    found: dict[tuple[Any, ...], list[Event]] = {}
    for event in events:
        if event.worker is not None and event.transition is not Transition.QUEUED:
            key = (event.queue_system, event.attempt, event.retry_count, event.deliveries)
            found.setdefault(key, []).append(event)
    return [_attempt_row(found[key]) for key in sorted(found)]


def _attempt_row(events: list[Event]) -> Row:
    """The last event says how an attempt stands, any says when it started."""
    last = _last(events)
    running = last.transition in _RUNNING
    started_ms = _started_ms(last)
    if started_ms is None:
        starts = (_started_ms(event) for event in sorted(events, key=_seq, reverse=True))
        started_ms = next((one for one in starts if one is not None), None)
    wall, cpu, memory = fitted_numbers(last.wall_time_ms, last.cpu_time_ms, last.memory_peak_kb)
    return {
        "tenant": last.tenant,
        "eval_id": last.eval_id,
        "queue_system": last.queue_system,
        "attempt": last.attempt,
        "retry_count": last.retry_count,
        "deliveries": last.deliveries,
        "seq": last.seq,
        "transition": last.transition._value_,
        "worker": last.worker,
        "started_ms": started_ms,
        "ended_ms": None if running else last.at,
        "verdict": last.verdict,
        "wall_time_ms": wall,
        "cpu_time_ms": cpu,
        "memory_peak_kb": memory,
        "message": last.message,
    }


def _started_ms(event: Event) -> int | None:
    started_ms = event.at if event.transition is Transition.RUNNING else event.started_ms
    return whole_or_none(started_ms)


def _json(event: Event) -> str | None:
    if event.metadata is None:
        return None
    encoded = msgspec.json.encode(event.metadata)
    # Clients may not send this much; others who write to the bus may. Half of it would be no JSON.
    return encoded.decode() if len(encoded) <= _METADATA else None

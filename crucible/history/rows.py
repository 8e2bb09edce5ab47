"""Rows of the tables, made of events. Pure.

Events of one evaluation are folded here before they are written, so that a batch writes a row once.
What folding does here, ``history.upserts`` does in SQL to rows of earlier batches: the event with
the highest ``seq`` says where the evaluation stands, the original submission says what it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crucible.events.event import Event, Transition
from crucible.history.lengths import EVAL_ID, NAME, TASK_ID, TENANT, WORD
from crucible.models import LOCAL_TENANT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
_MESSAGE, _METADATA = 2000, 64 * 1024
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
#: Labels of one evaluation; more of its metadata is kept, but not searched for.
_MAX_LABELS = 64
_WORD = re.compile(r"[^\W_]+")
_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\Z", re.IGNORECASE)


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
    waves: list[dict[Key, Row]] = [{}]
    transitions: dict[tuple[Any, ...], Row] = {}
    attempts: dict[tuple[Any, ...], Row] = {}
    labels: dict[tuple[Any, ...], Row] = {}
    for event in map(cut, events):
        _fold_into(waves, evaluation_row(event))
        transition = _transition_row(event)
        transitions.setdefault(tuple(transition.values())[:5], transition)
        attempt = _attempt_row(event)
        if attempt is not None:
            known = attempts.get(key := tuple(attempt.values())[:6])
            attempts[key] = attempt if known is None else _fold_attempt(known, attempt)
        if is_submission(event):
            labels.update((tuple(row.values()), row) for row in label_rows(event))
    return Batch(
        [[wave[key] for key in sorted(wave)] for wave in waves if wave],
        *([rows[key] for key in sorted(rows)] for rows in (transitions, attempts, labels)),
    )


def cut(event: Event) -> Event:
    """An event that fits the columns: anybody may write to the bus."""
    return msgspec.structs.replace(
        event,
        eval_id=_text(event.eval_id, EVAL_ID),
        seq=_whole(event.seq, _INT64),
        at=_whole(event.at, _INT64),
        status=_text(event.status, 20),
        tenant=_text(event.tenant, TENANT),
        queue=_text(event.queue, NAME),
        retry_count=_whole(event.retry_count, _INT32),
        attempt=_whole(event.attempt, _INT32),
        deliveries=_whole(event.deliveries, _INT32),
        worker=_text_or_none(event.worker, TASK_ID),
        verdict=_text_or_none(event.verdict, NAME),
        message=_text_or_none(event.message, _MESSAGE),
        language=_text(event.language, NAME),
        environment=_text_or_none(event.environment, NAME),
        priority=_whole_or_none(event.priority, _INT32),
        isolation=_text_or_none(event.isolation, 20),
    )


def evaluation_row(event: Event) -> Row:
    """The row of ``evaluations`` as one event alone would make it."""
    submitted = is_submission(event)
    started_ms = event.at if event.transition is Transition.RUNNING else event.started_ms
    return {
        "tenant": event.tenant,
        "eval_id": event.eval_id,
        "submitted": submitted,
        "created_ms": event.at,
        "language": event.language or None,
        "environment": event.environment,
        "priority": event.priority,
        "code_bytes": event.code_bytes,
        "metadata": _json(event) if submitted else None,
        "queue": event.queue or None,
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
        "started_ms": _whole_or_none(started_ms, _INT64),
        "finished_ms": event.at if event.terminal else None,
        "sandbox_ms": _whole_or_none(event.sandbox_ms, _INT64),
        "run_ms": _whole_or_none(event.run_ms, _INT64),
        "wall_time_ms": _whole_or_none(event.wall_time_ms, _INT64),
        "cpu_time_ms": _whole_or_none(event.cpu_time_ms, _INT64),
        "memory_peak_kb": _whole_or_none(event.memory_peak_kb, _INT64),
        "exit_code": _whole_or_none(event.exit_code, _INT64),
        "signal": _whole_or_none(event.signal, _INT64),
        "isolation": event.isolation,
        "output_bytes": _whole_or_none(event.output_bytes, _INT64),
        "error_bytes": _whole_or_none(event.error_bytes, _INT64),
        "output_truncated": event.output_truncated,
    }


def task_id_of(event: Event) -> str:
    """The id of the Celery task of an evaluation (docs/events.md)."""
    scope = "" if event.tenant == LOCAL_TENANT else f"{event.tenant}:"
    return f"eval-{scope}{event.eval_id}"


def _fold_into(waves: list[dict[Key, Row]], row: Row) -> None:
    """Fold a row into the one of its evaluation; what cannot be folded is a wave of its own."""
    key = (row["tenant"], row["eval_id"])
    for wave in waves[::-1]:
        known = wave.get(key)
        if known is None:
            continue
        if known["queue_system"] == row["queue_system"]:
            wave[key] = fold(known, row)
            return
        break
    else:
        waves[0][key] = row
        return
    following = next((wave for wave in waves[waves.index(wave) + 1 :] if key not in wave), None)
    if following is None:
        waves.append(following := {})
    following[key] = row


def fold(known: Row, later: Row) -> Row:
    """Two rows of one evaluation in one queue system as one."""
    row = dict(known)
    if later["seq"] > known["seq"]:
        row.update((name, later[name]) for name in STATE)
    if known["submitted"]:
        return row
    if later["submitted"]:
        row.update((name, later[name]) for name in SUBMISSION)
        row["submitted"] = True
    else:
        row["created_ms"] = min(known["created_ms"], later["created_ms"])
        row["queue"] = known["queue"] or later["queue"]
        row["language"] = known["language"] or later["language"]
    return row


def _transition_row(event: Event) -> Row:
    return {
        "tenant": event.tenant,
        "eval_id": event.eval_id,
        "seq": event.seq,
        "queue_system": event.queue_system,
        "transition": event.transition.value,
        "at_ms": event.at,
        "worker": event.worker,
        "verdict": event.verdict,
        "message": event.message,
    }


def _attempt_row(event: Event) -> Row | None:
    """The row of ``attempts``; None where no worker had it."""
    if event.worker is None or event.transition is Transition.QUEUED:
        return None
    running = event.transition in (Transition.RUNNING, Transition.PROGRESS)
    started_ms = event.at if event.transition is Transition.RUNNING else event.started_ms
    return {
        "tenant": event.tenant,
        "eval_id": event.eval_id,
        "queue_system": event.queue_system,
        "attempt": event.attempt,
        "retry_count": event.retry_count,
        "deliveries": event.deliveries,
        "seq": event.seq,
        "transition": event.transition.value,
        "worker": event.worker,
        "started_ms": _whole_or_none(started_ms, _INT64),
        "ended_ms": None if running else event.at,
        "verdict": event.verdict,
        "wall_time_ms": _whole_or_none(event.wall_time_ms, _INT64),
        "cpu_time_ms": _whole_or_none(event.cpu_time_ms, _INT64),
        "memory_peak_kb": _whole_or_none(event.memory_peak_kb, _INT64),
        "message": event.message,
    }


def _fold_attempt(known: Row, row: Row) -> Row:
    earlier, later = (known, row) if row["seq"] > known["seq"] else (row, known)
    if later["started_ms"] is None:
        later["started_ms"] = earlier["started_ms"]
    return later


def label_rows(event: Event) -> Iterator[Row]:
    """What an evaluation is found by: scalars of its metadata, and words of them and of its id."""
    pairs = dict.fromkeys(_labels_of(event))
    for name, value in list(pairs)[:_MAX_LABELS]:
        yield {
            "tenant": event.tenant,
            "name": name,
            "value": value,
            "created_ms": event.at,
            "eval_id": event.eval_id,
        }


def _labels_of(event: Event) -> Iterator[tuple[str, str]]:
    found = [
        (name, value)
        for name, stored in (event.metadata or {}).items()
        if name and len(name) <= WORD and (value := label_value(stored)) is not None
    ]
    yield from ((_text(name, WORD), value) for name, value in found)
    # Nobody searches for a part of a generated id, and it would be five words.
    texts = [] if _UUID.match(event.eval_id) else [event.eval_id]
    for text in (*texts, *(value for _, value in found)):
        yield from (("", word) for word in words_of(text))


def label_value(value: object) -> str | None:
    """A value of metadata as it is searched for; None for lists, objects and null.

    Args:
        value: text, a number or a boolean.
    """
    if isinstance(value, str):
        return _text(value, WORD)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _text(str(value), WORD)
    return None


def words_of(text: str) -> list[str]:
    """The words of a text as they are searched for, each once."""
    return list(dict.fromkeys(word[:WORD] for word in _WORD.findall(text.casefold())))


def _json(event: Event) -> str | None:
    if event.metadata is None:
        return None
    encoded = msgspec.json.encode(event.metadata)
    # Clients may not send this much; others who write to the bus may. Half of it would be no JSON.
    return encoded.decode() if len(encoded) <= _METADATA else None


def _text(value: str, length: int) -> str:
    # PostgreSQL has no NUL in text.
    return value.replace("\0", "")[:length]


def _text_or_none(value: str | None, length: int) -> str | None:
    return None if value is None else _text(value, length)


def _whole(value: int, most: int) -> int:
    return max(-most, min(value, most))


def _whole_or_none(value: int | None, most: int) -> int | None:
    return None if value is None else _whole(value, most)

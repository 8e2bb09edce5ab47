"""Evaluations as the history has them: all but their output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crucible.evaluation.record import task_id_of
from crucible.evaluation.view import text_time
from crucible.models import Evaluation, Timing, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What fields are called in rows.
_SAME = (
    "eval_id", "status", "verdict", "exit_code", "signal", "message", "output_truncated",
    "queue_system", "retry_count", "worker",
)  # fmt: skip


def past_evaluation(row: Mapping[str, Any]) -> Evaluation:
    """An evaluation as clients see it, of a row of the history.

    Raises:
        msgspec.ValidationError: the row was written by a later version.
    """
    fields: dict[str, Any] = {name: row[name] for name in _SAME}
    fields["task_id"] = task_id_of(row["eval_id"])
    fields["isolation"] = row["isolation"] or "container"
    fields["queue"], fields["language"] = row["queue"] or "", row["language"] or ""
    fields["celery_task_id"] = row["celery_task_id"]
    if row["metadata"] is not None:
        fields["metadata"] = msgspec.json.decode(row["metadata"])
    if row["wall_time_ms"] is not None:
        fields["usage"] = Usage(
            wall_time_ms=row["wall_time_ms"],
            cpu_time_ms=row["cpu_time_ms"] or 0,
            memory_peak_kb=row["memory_peak_kb"] or 0,
        )
    for name in ("created", "started", "finished"):
        at_ms = row[f"{name}_ms"]
        fields[f"{name}_at"] = None if at_ms is None else text_time(at_ms)
    if row["finished_ms"] is not None:
        fields["timing_ms"] = _timing(row)
    return msgspec.convert(fields, Evaluation)


def _timing(row: Mapping[str, Any]) -> Timing:
    created_ms, started_ms = row["created_ms"], row["started_ms"]
    return Timing(
        queued=0 if started_ms is None else max(0, started_ms - created_ms),
        sandbox=row["sandbox_ms"] or 0,
        run=row["run_ms"] or 0,
        total=max(0, row["finished_ms"] - created_ms),
    )

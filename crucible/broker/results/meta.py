"""Results of tasks, as stock result backends write them under ``celery-task-meta-<id>``.

Source: celery ``backends/base.py`` ``_get_result_meta`` and ``prepare_exception``; key order is
the order stock writes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.wire.jsontypes import dumps, loads
from crucible.broker.wire.states import (
    EXCEPTION,
    FAILURE,
    PENDING,
    READY,
    RETRY,
    REVOKED,
    STARTED,
    SUCCESS,
    is_final,
)
from crucible.errors import MessageError, TaskFailed, TaskRevoked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "EXCEPTION",
    "FAILURE",
    "PENDING",
    "READY",
    "RETRY",
    "REVOKED",
    "STARTED",
    "SUCCESS",
    "Meta",
    "decode_meta",
    "encode_meta",
    "exception_result",
    "extended_fields",
    "is_final",
    "revoked_result",
]


class Meta(msgspec.Struct, kw_only=True):
    """The stored state of one task.

    Attributes:
        task_id: whose.
        status: SUCCESS, FAILURE, RETRY, STARTED, REVOKED or a state of the task's own.
        result: the value, or an exception as ``{exc_type, exc_message, exc_module}``.
        traceback: text of the worker's traceback, or None.
        children: result tuples of the tasks it sent; None where stock stored none at all.
        date_done: ISO 8601, None before the end.
        group_id: id of its group or chord; written when set.
        parent_id: id of the task that sent it; written when set.
        extended: ``name args kwargs worker retries queue`` and stamps, where the backend is set
            to keep them.
    """

    task_id: str
    status: str
    result: Any = None
    traceback: str | None = None
    children: list[Any] | None = []
    date_done: str | None = None
    group_id: str | None = None
    parent_id: str | None = None
    extended: dict[str, Any] = {}

    @property
    def ready(self) -> bool:
        """The task ended; this is its last state."""
        return self.status in READY

    def value(self) -> Any:
        """The result of a task that succeeded.

        Raises:
            TaskFailed: it raised.
            TaskRevoked: it was revoked, terminated or expired.
        """
        if self.status == REVOKED:
            raise TaskRevoked(_exception_text(self.result) or "revoked")
        if self.status == FAILURE:
            raise self._failure()
        return self.result

    def _failure(self) -> TaskFailed:
        fields = self.result if isinstance(self.result, dict) else {}
        return TaskFailed(
            str(fields.get("exc_type", "Exception")),
            fields.get("exc_message", ()),
            str(fields.get("exc_module", "")),
            self.traceback,
        )


def _exception_text(result: Any) -> str:
    message = result.get("exc_message") if isinstance(result, dict) else result
    if isinstance(message, (list, tuple)):
        return ", ".join(map(str, message))
    return "" if message is None else str(message)


def exception_result(error: BaseException) -> dict[str, Any]:
    """An exception as JSON results carry it; arguments JSON cannot carry become their repr."""
    kind = type(error)
    return {
        "exc_type": kind.__qualname__,
        "exc_message": [_carried(argument) for argument in error.args],
        "exc_module": kind.__module__,
    }


def _carried(argument: Any) -> Any:
    try:
        dumps(argument)
    except (TypeError, ValueError):
        return repr(argument)
    return argument


def revoked_result(reason: str) -> dict[str, Any]:
    """The result of a REVOKED task; ``reason`` is revoked, terminated or expired."""
    return {
        "exc_type": "TaskRevokedError",
        "exc_message": [reason],
        "exc_module": "celery.exceptions",
    }


def extended_fields(
    *,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    worker: str | None,
    retries: int,
    queue: str | None,
    stamped_headers: Iterable[str] | None = None,
    stamps: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``result_extended`` adds, in stock's order."""
    fields: dict[str, Any] = {
        "name": name,
        "args": args,
        "kwargs": kwargs,
        "worker": worker,
        "retries": retries,
        "queue": queue,
    }
    if stamps:
        names = list(stamped_headers or ())
        fields["stamped_headers"] = names
        fields.update({key: value for key, value in stamps.items() if key in names})
    return fields


def encode_meta(
    task_id: str,
    status: str,
    result: Any = None,
    *,
    traceback: str | None = None,
    children: Sequence[Any] | None = (),
    group_id: str | None = None,
    parent_id: str | None = None,
    extended: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> bytes:
    """The stored form of one state. ``date_done`` is ``now`` for a state that ends the task.

    Raises:
        TypeError: the result is of a kind JSON cannot carry; stock then stores FAILURE EncodeError.
        ValueError: the result is circular.
    """
    done = (now or datetime.now(UTC)).isoformat() if status in READY else None
    meta: dict[str, Any] = {
        "status": status,
        "result": result,
        "traceback": traceback,
        "children": children,
        "date_done": done,
    }
    if group_id:
        meta["group_id"] = group_id
    if parent_id:
        meta["parent_id"] = parent_id
    if extended:
        meta.update(extended)
    meta["task_id"] = task_id
    return dumps(meta).encode()


_KNOWN = frozenset(Meta.__struct_fields__)


def decode_meta(raw: bytes) -> Meta:
    """Read what a stock or Crucible worker stored.

    Raises:
        MessageError: not a task's meta.
    """
    try:
        fields = loads(raw)
    except ValueError as error:
        raise MessageError(f"result is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise MessageError("result is not an object")
    status, task_id = fields.get("status"), fields.get("task_id")
    if not isinstance(status, str) or not isinstance(task_id, str):
        raise MessageError("result has no status or task_id")
    return Meta(
        task_id=task_id,
        status=status,
        result=fields.get("result"),
        traceback=fields.get("traceback"),
        children=fields.get("children"),
        date_done=fields.get("date_done"),
        group_id=fields.get("group_id"),
        parent_id=fields.get("parent_id"),
        extended={key: value for key, value in fields.items() if key not in _KNOWN},
    )

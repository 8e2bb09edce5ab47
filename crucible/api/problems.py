"""Errors of ours as the problem documents of the API, each translated here and nowhere else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from crucible.errors import (
    BrokerUnavailable,
    ConflictError,
    CrucibleError,
    HistoryError,
    InputError,
    LegacyError,
    LegacyRefused,
    LegacyUnavailable,
    LegacyWrongState,
    MemoryFull,
    MessageError,
    NotFound,
    QueueFull,
    SettingsError,
)
from crucible.evaluation.service import NOT_QUEUED
from crucible.http.problems import (
    internal_error,
    of_input,
    problem,
    problem_middleware,
    unavailable,
)

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

#: Seconds a client is asked to wait while the queue server is away or a queue is full.
RETRY_AFTER_S = 2
_AWAY = "the queue server does not answer"
_NO_HISTORY = "the database of the history does not answer"
_FULL = "the memory of the queue server is full"


def translate(error: CrucibleError) -> web.Response:
    """The response a client gets for an error of ours."""
    match error:
        case ConflictError():
            return of_input(error, 409, "Conflict")
        case InputError(field=""):
            return of_input(error, 400, "Malformed body")
        case InputError():
            return of_input(error, 422, "Unprocessable field")
        case MessageError():
            return problem(422, "Unusable message", str(error))
        case SettingsError():
            return problem(422, "Unusable switches", error.detail, field=error.setting)
        case NotFound():
            return problem(404, "Not found", str(error))
        case LegacyWrongState():
            return problem(409, "Not in this state", str(error))
        case QueueFull():
            return busy(str(error), queue=error.queue, depth=error.depth)
        case LegacyError() | BrokerUnavailable() | HistoryError():
            return busy(_reason_of(error))
        case _:
            log.error("unexpected error: %r", error)
            return internal_error()


def _reason_of(error: CrucibleError) -> str:
    if isinstance(error, MemoryFull):
        return _FULL
    if isinstance(error, HistoryError):
        return _NO_HISTORY
    return _AWAY if isinstance(error, BrokerUnavailable) else str(error)


def not_submitted(error: CrucibleError, *, named: bool) -> web.Response:
    """The response to a submission that failed; a 503 says what is known of the program.

    Args:
        error: of the submission itself, not of a request made after it.
        named: the client gave it an id, so that submitting the same again finds the first.
    """
    if not isinstance(error, (BrokerUnavailable, LegacyUnavailable, LegacyRefused)):
        return translate(error)
    reason = _reason_of(error)
    # "By this request": an earlier one under the same id may be queued.
    known = "nothing was queued by this request"
    return busy(f"{reason}; {known if isinstance(error, NOT_QUEUED) else _in_doubt(named=named)}")


def _in_doubt(*, named: bool) -> str:
    known = "whether it was queued is not known"
    if named:
        return f"{known}, sending the same again is safe"
    return f"{known}, and without an eval_id or Idempotency-Key it may run twice when sent again"


def busy(detail: str, **members: Any) -> web.Response:
    """The 503 of the API.

    Args:
        detail: this occurrence, for people.
        members: further members of the document.
    """
    return unavailable(detail, RETRY_AFTER_S, **members)


problems = problem_middleware(translate)

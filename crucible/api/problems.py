"""Errors of ours as the problem documents of the API, each translated here and nowhere else."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from crucible.api.key_refusals import count_refusal
from crucible.errors import (
    BrokerUnavailable,
    ConflictError,
    ContentGone,
    CrucibleError,
    Forbidden,
    HistoryError,
    InputError,
    LegacyError,
    LegacyRefused,
    LegacyUnavailable,
    LegacyWrongState,
    MemoryFull,
    MessageError,
    NotEnded,
    NotFound,
    QueueFull,
    QuotaExceeded,
    SessionError,
    SessionGone,
    SessionQuota,
    SettingsError,
    Unauthenticated,
)
from crucible.evaluation.drain_rate import DrainRate
from crucible.evaluation.service import NOT_QUEUED
from crucible.http.problems import (
    internal_error,
    of_input,
    problem,
    problem_middleware,
    unavailable,
)
from crucible.identity.rates import RateStatus

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

#: Seconds a client is asked to wait while the queue server is away.
RETRY_AFTER_S = 2
#: One for the process: what it measures does not depend on who asks.
DRAIN_RATE = DrainRate()
#: Status and title of errors whose text says the rest.
_PLAIN: dict[type[CrucibleError], tuple[int, str]] = {
    NotFound: (404, "Not found"),
    NotEnded: (409, "Not in this state"),
    LegacyWrongState: (409, "Not in this state"),
    ContentGone: (410, "Gone"),
}
_AWAY = "the queue server does not answer"
_NO_HISTORY = "the database of the history does not answer"
_FULL = "the memory of the queue server is full"


def translate(error: CrucibleError) -> web.Response:
    """The response a client gets for an error of ours."""
    match error:
        case InputError():
            return _unusable(error)
        case MessageError():
            return problem(422, "Unusable message", str(error))
        case SettingsError():
            return problem(422, "Unusable switches", error.detail, field=error.setting)
        case NotFound() | NotEnded() | ContentGone() | LegacyWrongState():
            return problem(*_PLAIN[type(error)], str(error))
        case Unauthenticated() | Forbidden():
            count_refusal(error)
            return _not_allowed(error)
        case QueueFull():
            return _queue_full(error)
        case QuotaExceeded() | SessionError():
            return _used_up(error)
        case LegacyError() | BrokerUnavailable() | HistoryError():
            return busy(_reason_of(error))
        case _:
            log.error("unexpected error: %r", error)
            return internal_error()


def _unusable(error: InputError) -> web.Response:
    if isinstance(error, ConflictError):
        return of_input(error, 409, "Conflict")
    if error.field:
        return of_input(error, 422, "Unprocessable field")
    return of_input(error, 400, "Malformed body")


def _not_allowed(error: Unauthenticated | Forbidden) -> web.Response:
    """The challenge says what was wrong with the key (RFC 6750, 3)."""
    challenge = 'Bearer realm="crucible"'
    if isinstance(error, Forbidden):
        challenge += f', error="insufficient_scope", scope="{error.scope}"'
        status, title = 403, "Forbidden"
    else:
        challenge += ', error="invalid_token"' if error.given else ""
        status, title = 401, "Unauthorized"
    return problem(status, title, str(error), headers={"WWW-Authenticate": challenge})


def _queue_full(error: QueueFull) -> web.Response:
    """When to come back follows from what waits and how fast evaluations complete."""
    wait_s = DRAIN_RATE.wait_s(error.depth)
    response = unavailable(str(error), wait_s, queue=error.queue, depth=error.depth)
    # Structured fields of the IETF's RateLimit header draft: nothing is left, until in so long.
    response.headers["RateLimit"] = f'"queue";r=0;t={wait_s}'
    return response


def _used_up(error: QuotaExceeded | SessionError) -> web.Response:
    if isinstance(error, SessionError):
        return _of_session(error)
    count_refusal(error)
    headers = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    if error.policy:
        headers |= RateStatus.of(error.policy, 0, error.reset_s).headers()
    return problem(429, "Too many requests", str(error), headers=headers)


def _of_session(error: SessionError) -> web.Response:
    if isinstance(error, SessionGone):
        return problem(410, "Session lost", str(error), code="session_lost", reason=error.reason)
    if isinstance(error, SessionQuota):
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return problem(429, "Too many sessions", str(error), headers=headers)
    return busy(str(error))


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

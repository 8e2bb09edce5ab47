"""Errors of the legacy queue over HTTP: problem documents (RFC 9457) made of errors, and back.

The ``type`` of a document names the error's class, so that an answer of another server (the 404 of
a wrong base URL, for example) is not mistaken for one of the queue's own.
"""

from __future__ import annotations

import logging

import msgspec
from aiohttp import web

from crucible.errors import (
    ConflictError,
    CrucibleError,
    InputError,
    LegacyRefused,
    LegacyTaskUnknown,
    LegacyUnavailable,
    LegacyWrongState,
)
from crucible.http.problems import (
    internal_error,
    of_http,
    of_input,
    problem,
    problem_middleware,
    unavailable,
)

log = logging.getLogger(__name__)

#: Seconds a refused client is asked to wait.
RETRY_AFTER_S = 5
_PREFIX = "urn:crucible:legacy:"
#: The most special class first.
_KINDS: tuple[tuple[type[CrucibleError], str, int, str], ...] = (
    (ConflictError, "conflict", 409, "Conflict"),
    (InputError, "invalid", 422, "Unusable input"),
    (LegacyTaskUnknown, "task-unknown", 404, "No such task"),
    (LegacyWrongState, "wrong-state", 409, "Not in this status"),
    (LegacyRefused, "refused", 503, "Not taking tasks"),
)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What the client reads of a problem document; foreign ones may lack any of it."""

    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    field: str | None = None


def document(error: CrucibleError) -> web.Response:
    """The answer for an error of ours."""
    for error_class, name, status, title in _KINDS:
        if not isinstance(error, error_class):
            continue
        kind = _PREFIX + name
        if isinstance(error, InputError):
            # Without a field the body as a whole could not be decoded.
            answered = status if error.field else 400
            return of_input(error, answered, title, kind=kind)
        if status == 503:
            return unavailable(str(error), RETRY_AFTER_S, kind=kind)
        return problem(status, title, str(error), kind=kind)
    log.error("unexpected error: %r", error)
    return internal_error()


def error_of(status: int, body: bytes) -> CrucibleError:
    """The error that an answer of the service stands for."""
    try:
        answer = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = Problem()
    for error_class, name, _, _ in _KINDS:
        if answer.type == _PREFIX + name:
            if issubclass(error_class, InputError):
                return error_class(answer.field or "", answer.detail)
            return error_class(answer.detail)
    said = " ".join(filter(None, (answer.title, answer.detail)))
    return LegacyUnavailable(f"the legacy queue answered {status} {said}".rstrip())


def _of_http(error: web.HTTPException) -> web.Response:
    """The document for an error status of aiohttp; a body too large is the client's input."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        kind = _PREFIX + "invalid"
        return problem(413, "Body too large", error.text or "", kind=kind, field="", pointer="#")
    return of_http(error)


problems = problem_middleware(document, _of_http)

"""Errors of the legacy queue over HTTP: problem documents (RFC 9457) out of errors, and back.

The ``type`` of a document names the error's class, so that an answer of some other server (a
404 from a wrong base URL, say) is never taken for one of the queue's own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
#: Seconds a refused client is told to wait.
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
    """A problem document."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    field: str | None = None


def document(error: CrucibleError) -> web.Response:
    """The answer for an error of ours."""
    for kind, name, status, title in _KINDS:
        if isinstance(error, InputError) and isinstance(error, kind):
            # Without a field the body as a whole could not be read.
            read = status if error.field else 400
            return _response(_PREFIX + name, read, title, error.detail, error.field or "body")
        if isinstance(error, kind):
            return _response(_PREFIX + name, status, title, str(error))
    log.error("unexpected error: %r", error)
    return _response("about:blank", 500, "Internal error")


def error_of(status: int, body: bytes) -> CrucibleError:
    """The error that an answer of the service stands for."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = Problem()
    for kind, name, _, _ in _KINDS:
        if problem.type == _PREFIX + name:
            if issubclass(kind, InputError):
                return kind(problem.field or "", problem.detail)
            return kind(problem.detail)
    said = " ".join(filter(None, (problem.title, problem.detail)))
    return LegacyUnavailable(f"the legacy queue answered {status} {said}".rstrip())


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into a problem document."""
    try:
        return await handler(request)
    except CrucibleError as error:
        return document(error)
    except web.RequestPayloadError as error:
        log.debug("a body that cannot be read: %s", error)
        return document(InputError("", "the body cannot be read"))
    except web.HTTPRequestEntityTooLarge as error:
        return _response(_PREFIX + "invalid", 413, "Body too large", error.text or "", "body")
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {name: value for name, value in error.headers.items() if name == "Allow"}
        return _response("about:blank", error.status, error.reason, headers=headers)
    except Exception:  # the last line of defence: a client must never see a traceback
        log.exception("unhandled error in %s %s", request.method, request.path)
        return _response("about:blank", 500, "Internal error")


def unauthorized() -> web.Response:
    """The answer to a request without the right token."""
    return _response("about:blank", 401, "Unauthorized", headers={"WWW-Authenticate": "Bearer"})


def _response(
    kind: str,
    status: int,
    title: str,
    detail: str = "",
    field: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    members: dict[str, Any] = {"type": kind, "title": title, "status": status}
    if detail:
        members["detail"] = detail
    if field is not None:
        members["field"] = field
    if status == 503:
        headers = {**(headers or {}), "Retry-After": str(RETRY_AFTER_S)}
    return web.Response(
        body=msgspec.json.encode(members),
        status=status,
        content_type=CONTENT_TYPE,
        headers=headers,
    )

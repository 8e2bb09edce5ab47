"""Errors as ``application/problem+json`` (RFC 9457), each translated here and nowhere else."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError, LineTooLong

from crucible.errors import (
    BrokerUnavailable,
    ConflictError,
    CrucibleError,
    InputError,
    LegacyError,
    LegacyRefused,
    LegacyUnavailable,
    LegacyUnreached,
    LegacyWrongState,
    MessageError,
    NothingStored,
    QueueFull,
    SettingsError,
)

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
#: Seconds a client is told to wait while the queue server is away or a queue is full.
RETRY_AFTER_S = 2
#: A submission that ended so is in no queue.
NOT_QUEUED = (NothingStored, QueueFull, LegacyUnreached, LegacyRefused)
#: Content codings that aiohttp undoes, the last two where the libraries for them are installed.
_CODINGS = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
_AWAY = "the queue server does not answer"


class NotFound(CrucibleError):  # noqa: N818 - the name of the HTTP status
    """Nothing has this id."""


def problem(
    status: int,
    title: str,
    detail: str = "",
    *,
    field: str | None = None,
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> web.Response:
    """A problem document.

    Args:
        status: HTTP status.
        title: the kind of problem, the same for every occurrence.
        detail: this occurrence, for people.
        field: path of the offending field; ``body`` stands for the whole of it.
        headers: further headers.
        extra: further members.
    """
    document: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if detail:
        document["detail"] = detail
    if field is not None:
        document["field"] = field or "body"
        document["errors"] = [{"field": field or "body", "detail": detail}]
    return web.Response(
        body=msgspec.json.encode(document | extra),
        status=status,
        content_type=CONTENT_TYPE,
        headers=headers,
    )


def translate(error: CrucibleError) -> web.Response:
    """The response a client gets for an error of ours."""
    match error:
        case ConflictError():
            return problem(409, "Conflict", error.detail, field=error.field)
        case InputError(field=""):
            return problem(400, "Malformed body", error.detail, field="")
        case InputError():
            return problem(422, "Unprocessable field", error.detail, field=error.field)
        case MessageError():
            return problem(422, "Unusable message", str(error))
        case SettingsError():
            return problem(422, "Unusable switches", error.detail, field=error.setting)
        case NotFound():
            return problem(404, "Not found", str(error))
        case QueueFull():
            return busy(str(error), queue=error.queue, depth=error.depth)
        case LegacyError():
            return _legacy(error)
        case BrokerUnavailable():
            return busy(_AWAY)
        case _:
            log.error("unexpected error: %r", error)
            return problem(500, "Internal error")


def _legacy(error: LegacyError) -> web.Response:
    if isinstance(error, LegacyWrongState):
        return problem(409, "Not in this state", str(error))
    return busy(str(error))


def not_submitted(error: CrucibleError, *, named: bool) -> web.Response:
    """The response to a submission that failed; a 503 says what is known of the program.

    Args:
        error: of the submission itself, not of anything asked after it.
        named: it has an id of the client's, so the same again finds the first one.
    """
    if not isinstance(error, (BrokerUnavailable, LegacyUnavailable, LegacyRefused)):
        return translate(error)
    reason = _AWAY if isinstance(error, BrokerUnavailable) else str(error)
    # By this one: an earlier one of the same name may be queued.
    known = "nothing was queued by this request"
    return busy(f"{reason}; {known if isinstance(error, NOT_QUEUED) else _doubt(named=named)}")


def _doubt(*, named: bool) -> str:
    known = "whether it was queued is not known"
    if named:
        return f"{known}, sending the same again is safe"
    return f"{known}, and without an eval_id or Idempotency-Key it may run twice when sent again"


def busy(detail: str, **extra: Any) -> web.Response:
    """The 503 of a service that can be asked again soon.

    Args:
        detail: this occurrence, for people.
        extra: further members.
    """
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return problem(503, "Service unavailable", detail, headers=headers, **extra)


def undecodable(detail: str) -> web.Response:
    """The 415 of a body in a content coding that is not understood."""
    return problem(415, _phrase(415), detail, headers={"Accept-Encoding": "gzip, deflate"})


def of_http(error: web.HTTPException) -> web.Response:
    """The document for an error that aiohttp raised."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return problem(413, "Body too large", error.text or "", field="")
    headers = {name: value for name, value in error.headers.items() if name == "Allow"}
    return problem(error.status, error.reason, headers=headers)


def of_protocol(status: int, error: BaseException | None) -> web.Response:
    """The document for bytes that are no request, or that no handler got to see.

    Args:
        status: what aiohttp would answer.
        error: why.
    """
    if not isinstance(error, HttpProcessingError):
        return problem(status, _phrase(status))
    if isinstance(error, ContentEncodingError):
        return undecodable(_first_line(error))
    if isinstance(error, LineTooLong):
        # The parser keeps the target of a request, and only that, in a bytearray.
        status = 414 if isinstance(error.args[0], bytearray) else 431
    return problem(status, _phrase(status), _first_line(error))


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def _first_line(error: BaseException) -> str:
    """What an error of aiohttp's parser says, without the picture it draws of the bytes."""
    text = str(getattr(error, "message", "") or error)
    # An error of a body has all that its cause would say of itself: "400, message:" comes first.
    text = text.partition(", message:\n")[2] or text
    return text.strip().partition("\n")[0].rstrip(":")[:200]


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into a problem document."""
    coding = request.headers.get("Content-Encoding")
    if coding is not None and coding.lower() not in _CODINGS:
        # aiohttp hands on what it does not know, undecoded.
        return undecodable(f"the content coding {coding[:40]!r} is not known")
    try:
        return await handler(request)
    except CrucibleError as error:
        return translate(error)
    except web.RequestPayloadError as error:
        return translate(InputError("", f"the body cannot be read: {_first_line(error)}"))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return of_http(error)
    except Exception:  # the last line of defence: a client must never see a traceback
        log.exception("unhandled error in %s %s", request.method, request.path)
        return problem(500, "Internal error")

"""Errors as ``application/problem+json`` (RFC 9457), for every HTTP service of the project.

What an error of ours means is the business of each service, which passes its own ``translate``.
What aiohttp raises means the same everywhere and is worded here.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import ClientConnectionResetError, web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError, LineTooLong

from crucible.errors import CrucibleError, InputError, ParameterError
from crucible.http.answers import has_hung_up
from crucible.validation import pointer_of, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.typedefs import Handler, Middleware

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
#: The header field that names a submission.
IDEMPOTENCY_KEY = "Idempotency-Key"
#: ``type`` of a problem that is no more than its status.
BLANK = "about:blank"
#: Content codings that ``http.body`` undoes.
_CODINGS = frozenset({"", "identity", "gzip", "deflate"})
#: Characters of a parser's message that are repeated to the client.
_SHOWN = 200
_TOO_LONG = {
    414: "the target of the request is longer than 8190 bytes",
    431: "a field of the header is longer than 8190 bytes",
}
#: Bytes as Python writes them.
_LITERAL = re.compile(r"""\bb['"]|bytearray\(""")


def problem(
    status: int,
    title: str,
    detail: str = "",
    *,
    kind: str = BLANK,
    field: str | None = None,
    pointer: str | None = None,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> web.Response:
    """A problem document.

    Args:
        status: HTTP status.
        title: the kind of problem, the same for every occurrence.
        detail: this occurrence, for people.
        kind: a URI for the kind of problem (``type``), for clients that distinguish kinds by it.
        field: path of the offending field; ``body`` stands for the whole of it.
        pointer: the same as a JSON pointer, where it is a field of the body.
        headers: further headers.
        members: further members of the document.
    """
    document: dict[str, Any] = {"type": kind, "title": title, "status": status}
    if detail:
        document["detail"] = detail
    if field is not None:
        document["field"] = field or "body"
        where = {} if pointer is None else {"pointer": pointer}
        document["errors"] = [{"field": field or "body", "detail": detail, **where}]
    return web.Response(
        body=msgspec.json.encode(document | members),
        status=status,
        content_type=CONTENT_TYPE,
        headers=headers,
    )


def document_of(response: web.Response) -> dict[str, Any]:
    """The members of a problem document."""
    assert isinstance(response.body, bytes)
    document: dict[str, Any] = msgspec.json.decode(response.body)
    return document


def with_members(response: web.Response, **members: Any) -> web.Response:
    """The same problem with further members."""
    response.body = msgspec.json.encode(document_of(response) | members)
    return response


def unavailable(detail: str, retry_after_s: int, **kind_and_members: Any) -> web.Response:
    """The 503 of a service that can be asked again soon.

    Args:
        detail: this occurrence, for people.
        retry_after_s: whole seconds the client is asked to wait.
        kind_and_members: as for ``problem``.
    """
    headers = {"Retry-After": str(retry_after_s)}
    return problem(503, _phrase(503), detail, headers=headers, **kind_and_members)


def of_input(error: InputError, status: int, title: str, *, kind: str = BLANK) -> web.Response:
    """The document for what a client sent and cannot be used; it names the field."""
    # Nothing of a query or of the header has a place in the body.
    in_body = not isinstance(error, ParameterError) and error.field != IDEMPOTENCY_KEY
    pointer = pointer_of(error) if in_body else None
    return problem(status, title, error.detail, kind=kind, field=error.field, pointer=pointer)


def internal_error() -> web.Response:
    """The 500 of a fault of ours; the log says which, the client learns nothing of it."""
    return problem(500, "Internal error")


def unsupported_coding(detail: str) -> web.Response:
    """The 415 of a body in a content coding that cannot be decoded."""
    return problem(415, _phrase(415), detail, headers={"Accept-Encoding": "gzip, deflate"})


def of_http(error: web.HTTPException) -> web.Response:
    """The document for an error that aiohttp raised."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return problem(413, "Body too large", error.text or "", field="", pointer="#")
    headers = {name: value for name, value in error.headers.items() if name == "Allow"}
    # What aiohttp raises by itself has the status line as its text.
    detail = "" if error.text == f"{error.status}: {error.reason}" else error.text or ""
    return problem(error.status, error.reason, detail, headers=headers)


def of_protocol(status: int, error: BaseException | None) -> web.Response:
    """The document for bytes that are no request, or that no handler was called for.

    Args:
        status: what aiohttp would answer.
        error: why.
    """
    if not isinstance(error, HttpProcessingError):
        return problem(status, _phrase(status))
    if isinstance(error, ContentEncodingError):
        return unsupported_coding(first_line(error))
    if isinstance(error, LineTooLong):
        # The parser keeps the target of a request, and only that, in a bytearray.
        status = 414 if isinstance(error.args[0], bytearray) else 431
        return problem(status, _phrase(status), _TOO_LONG[status])
    return problem(status, _phrase(status), _words_of(error))


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def _words_of(error: BaseException) -> str:
    """What the parser says of malformed bytes, unless it is the representation of some."""
    text = first_line(error)
    return "the request is malformed" if _LITERAL.search(text) else text


def first_line(error: BaseException) -> str:
    """The message of an error of aiohttp's parser, without its drawing of the bytes."""
    text = str(getattr(error, "message", "") or error)
    # An error of a body repeats its cause after "400, message:".
    text = text.partition(", message:\n")[2] or text
    return text.strip().partition("\n")[0].rstrip(":")[:_SHOWN]


def problem_middleware(
    translate: Callable[[CrucibleError], web.Response],
    of_http: Callable[[web.HTTPException], web.Response] = of_http,
) -> Middleware:
    """A middleware that turns whatever a handler raises into a problem document.

    Args:
        translate: the response for an error of ours.
        of_http: the response for an error status that aiohttp or a handler raised.
    """

    @web.middleware
    async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        coding = ", ".join(request.headers.getall("Content-Encoding", ()))
        if coding.lower() not in _CODINGS:
            return unsupported_coding(f"the content coding {quoted(coding)} is not known")
        try:
            return await handler(request)
        except CrucibleError as error:
            return translate(error)
        except web.RequestPayloadError as error:
            return translate(InputError("", f"the body cannot be read: {first_line(error)}"))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return of_http(error)
        except Exception as error:  # the last line of defence: a client never sees a traceback
            is_of_writing = isinstance(error, ClientConnectionResetError) and has_hung_up(request)
            if error is request.content.exception() or is_of_writing:
                # The client went away while its body was read, or while a stream was written to
                # it; nobody reads this answer.
                return problem(400, _phrase(400))
            log.exception("unhandled error in %s %s", request.method, request.path)
            return internal_error()

    return problems

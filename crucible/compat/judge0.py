"""Judge0's ``/submissions``; languages and the like are in ``judge0_about``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from crucible.compat import judge0_about
from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import request_of
from crucible.compat.judge0_request import BATCH, RefusedSubmission, Submission, submission_from
from crucible.compat.judge0_submission import fields_of, is_encoded, refused_of
from crucible.compat.requests import json_of
from crucible.errors import BrokerError, InputError, LegacyError, NotFound
from crucible.evaluation.judge0_form import ALL_FIELDS, FIELDS, submission_of
from crucible.http.body import read_body

if TYPE_CHECKING:
    from crucible.models import Evaluation

#: Seconds that ``wait=true`` waits; Judge0's own limit of wall time.
WAIT_S = 20.0
FORM = "application/x-www-form-urlencoded"
_NEEDS_BASE64 = (
    "some attributes for {} cannot be converted to UTF-8, use base64_encoded=true query parameter"
)


class _InvalidFields(Exception):  # noqa: N818 - an answer
    """A 400: ``fields`` names some that Judge0 does not have."""


async def submit(request: web.Request) -> web.Response:
    """``POST /submissions``."""
    try:
        names = _names(request)
        asked = submission_from(_document(request, await read_body(request)))
        if request.query.get("wait") != "true":
            return web.json_response({"token": await _queue(request, asked)}, status=201)
        found = await _run(request, asked)
    except (msgspec.DecodeError, _InvalidFields) as error:
        return _error(str(error))
    except RefusedSubmission as refused:
        return web.json_response(refused.errors, status=422)
    except (BrokerError, LegacyError) as error:
        return overloaded(error)
    try:
        return web.json_response(_result(request, found, names), status=201)
    except UnicodeDecodeError:
        # It was run: the client needs its token to ask again.
        said = {"error": _NEEDS_BASE64.format("this submission"), "token": found.eval_id}
        return web.json_response(said, status=201)


async def show(request: web.Request) -> web.Response:
    """``GET /submissions/{token}``."""
    context = request.app[CONTEXT]
    try:
        names = _names(request)
        found = await context.service.look_up(
            context.caller_of(request), request.match_info["token"]
        )
        return web.json_response(_result(request, found, names))
    except _InvalidFields as error:
        return _error(str(error))
    except NotFound:
        return _error("not found", status=404)
    except UnicodeDecodeError:
        return _error(_NEEDS_BASE64.format("this submission"))


async def submit_batch(request: web.Request) -> web.Response:
    """``POST /submissions/batch``."""
    try:
        body = json_of(await read_body(request))
    except msgspec.DecodeError as error:
        return _error(str(error))
    found = body.get("submissions") if isinstance(body, dict) else None
    documents: list[Any] = found if isinstance(found, list) else []
    if wrong := _wrong_size(documents):
        return _error(wrong)
    items: list[dict[str, Any]] = []
    full = None
    for document in documents:
        try:
            items.append({"token": await _queue(request, submission_from(document))})
        except RefusedSubmission as refused:
            items.append(dict(refused.errors))
        except (BrokerError, LegacyError) as error:
            full = error
            items.append({"error": "queue is full"})
    if any("token" in item for item in items):
        return web.json_response(items, status=201)
    # What could be taken later is worth another try, which a 422 is not.
    return web.json_response(items, status=422) if full is None else overloaded(full)


async def show_batch(request: web.Request) -> web.Response:
    """``GET /submissions/batch?tokens=a,b``."""
    context = request.app[CONTEXT]
    caller = context.caller_of(request)
    shown: list[dict[str, Any] | None] = []
    given = request.headers.get("tokens") or request.query.get("tokens", "")
    tokens = [token.strip() for token in given.split(",") if token.strip()]
    if wrong := _wrong_size(tokens):
        return _error(wrong)
    try:
        names = _names(request)
        for token in tokens:
            try:
                found = await context.service.look_up(caller, token)
                shown.append(_result(request, found, names))
            except NotFound:
                shown.append(None)
    except _InvalidFields as error:
        return _error(str(error))
    except UnicodeDecodeError:
        return _error(_NEEDS_BASE64.format("one or more submissions"))
    return web.json_response({"submissions": shown})


async def list_all(_: web.Request) -> web.Response:
    """``GET /submissions``: for nobody, as by Judge0 without its ``X-Auth-User``."""
    return web.Response(status=403)


async def delete(_: web.Request) -> web.Response:
    """``DELETE /submissions/{token}``: for nobody, as by Judge0 without its ``X-Auth-User``."""
    return _error("delete not allowed", status=403)


def _document(request: web.Request, body: bytes) -> Any:
    """What a body holds: JSON, or a form as Rails takes it too.

    Raises:
        msgspec.DecodeError: it is neither.
    """
    if request.content_type != FORM or body.lstrip().startswith(b"{"):
        return json_of(body)
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise msgspec.DecodeError(f"is no form that can be read: {error}") from None


def _wrong_size(batch: list[Any]) -> str | None:
    """What is wrong with the number of submissions in a batch."""
    if not batch:
        return "there should be at least one submission in a batch"
    if len(batch) > BATCH:
        return f"number of submissions in a batch should be less than or equal to {BATCH}"
    return None


async def _queue(request: web.Request, asked: Submission) -> str:
    context = request.app[CONTEXT]
    fields = await fields_of(request, asked)
    try:
        submitted = await context.service.submit(context.caller_of(request), request_of(fields))
    except InputError as error:
        raise refused_of(error) from None
    return submitted.eval_id


async def _run(request: web.Request, asked: Submission) -> Evaluation:
    context = request.app[CONTEXT]
    caller, fields = context.caller_of(request), await fields_of(request, asked)
    try:
        submitted, ended = await context.service.submit_and_wait(
            caller, request_of(fields), None, WAIT_S
        )
    except InputError as error:
        raise refused_of(error) from None
    return ended or await context.service.look_up(caller, submitted.eval_id)


def _names(request: web.Request) -> tuple[str, ...] | None:
    """The fields that are asked for; None for all that are known.

    Raises:
        _InvalidFields: Judge0 has none of some name.
    """
    wanted = [name.strip() for name in request.query.get("fields", "").split(",") if name.strip()]
    if "*" in wanted:
        return None
    invalid = [name for name in wanted if name not in ALL_FIELDS]
    if invalid:
        raise _InvalidFields(f"invalid fields: [{', '.join(invalid)}]")
    return tuple(wanted) or FIELDS


def _result(
    request: web.Request, found: Evaluation, names: tuple[str, ...] | None
) -> dict[str, Any]:
    """A submission as Judge0 shows it.

    Raises:
        UnicodeDecodeError: a part is no text, and base64 was not asked for.
    """
    return submission_of(found, encoded=is_encoded(request), names=names)


def _error(text: str, status: int = 400) -> web.Response:
    return web.json_response({"error": text}, status=status)


def overloaded(_: Exception) -> web.Response:
    """The answer while programs cannot be taken."""
    return _error("queue is full", status=503)


ROUTES = (
    web.post("/submissions", submit),
    web.post("/submissions/batch", submit_batch),
    web.get("/submissions/batch", show_batch),
    web.get("/submissions/{token}", show),
    web.delete("/submissions/{token}", delete),
    web.get("/submissions", list_all),
    *judge0_about.ROUTES,
)

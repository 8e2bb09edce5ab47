"""Judge0's ``/submissions``; languages and the like are in ``judge0_about``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from crucible.compat import judge0_about
from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import request_of
from crucible.compat.judge0_submission import (
    BATCH,
    RefusedSubmission,
    Submission,
    fields_of,
    is_encoded,
    refused_of,
)
from crucible.errors import BrokerError, InputError, LegacyError, NotFound
from crucible.evaluation.judge0_form import FIELDS, submission_of
from crucible.http.body import read_body

if TYPE_CHECKING:
    from crucible.models import Evaluation

#: Seconds that ``wait=true`` waits; Judge0's own limit of wall time.
WAIT_S = 20.0


class SubmissionBatch(msgspec.Struct, kw_only=True):
    """The body of ``/submissions/batch``."""

    submissions: list[Submission] = []


async def submit(request: web.Request) -> web.Response:
    """``POST /submissions``."""
    try:
        asked = msgspec.json.decode(await read_body(request), type=Submission)
        if request.query.get("wait") == "true":
            found = await _run(request, asked)
            return _shown(request, found, status=201)
        return web.json_response({"token": await _queue(request, asked)}, status=201)
    except msgspec.DecodeError as error:
        return web.json_response({"error": str(error)}, status=400)
    except RefusedSubmission as refused:
        return web.json_response(refused.errors, status=422)
    except (BrokerError, LegacyError) as error:
        return overloaded(error)


async def show(request: web.Request) -> web.Response:
    """``GET /submissions/{token}``."""
    context = request.app[CONTEXT]
    try:
        found = await context.service.look_up(
            context.caller_of(request), request.match_info["token"]
        )
    except NotFound:
        return web.json_response({"error": "not found"}, status=404)
    return _shown(request, found)


async def submit_batch(request: web.Request) -> web.Response:
    """``POST /submissions/batch``."""
    try:
        body = msgspec.json.decode(await read_body(request), type=SubmissionBatch)
    except msgspec.DecodeError as error:
        return web.json_response({"error": str(error)}, status=400)
    submissions = body.submissions
    if not 0 < len(submissions) <= BATCH:
        text = f"number of submissions in a batch should be between 1 and {BATCH}"
        return web.json_response({"error": text}, status=400)
    items: list[dict[str, Any]] = []
    for asked in submissions:
        try:
            items.append({"token": await _queue(request, asked)})
        except RefusedSubmission as refused:
            items.append(dict(refused.errors))
        except (BrokerError, LegacyError):
            items.append({"error": "queue is full"})
    good = any("token" in item for item in items)
    return web.json_response(items, status=201 if good else 422)


async def show_batch(request: web.Request) -> web.Response:
    """``GET /submissions/batch?tokens=a,b``."""
    context = request.app[CONTEXT]
    caller = context.caller_of(request)
    shown: list[dict[str, Any] | None] = []
    tokens = [token for token in request.query.get("tokens", "").split(",") if token]
    if not 0 < len(tokens) <= BATCH:
        text = f"number of submissions in a batch should be between 1 and {BATCH}"
        return web.json_response({"error": text}, status=400)
    for token in tokens:
        try:
            shown.append(_result(request, await context.service.look_up(caller, token)))
        except NotFound:
            shown.append(None)
        except UnicodeDecodeError:
            return _needs_base64()
    return web.json_response({"submissions": shown})


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


def _shown(request: web.Request, found: Evaluation, status: int = 200) -> web.Response:
    try:
        return web.json_response(_result(request, found), status=status)
    except UnicodeDecodeError:
        return _needs_base64()


def _needs_base64() -> web.Response:
    text = (
        "some attributes for this submission cannot be converted to UTF-8, "
        "use base64_encoded=true query parameter"
    )
    return web.json_response({"error": text}, status=400)


def _result(request: web.Request, found: Evaluation) -> dict[str, Any]:
    """A submission as Judge0 shows it.

    Raises:
        UnicodeDecodeError: a part is no text, and base64 was not asked for.
    """
    everything = submission_of(found, encoded=is_encoded(request))
    wanted = request.query.get("fields")
    if wanted == "*":
        return everything
    names = FIELDS if not wanted else tuple(wanted.split(","))
    return {name: everything.get(name) for name in names}


def overloaded(_: Exception) -> web.Response:
    """The answer while programs cannot be taken."""
    return web.json_response({"error": "queue is full"}, status=503)


ROUTES = (
    web.post("/submissions", submit),
    web.post("/submissions/batch", submit_batch),
    web.get("/submissions/batch", show_batch),
    web.get("/submissions/{token}", show),
    *judge0_about.ROUTES,
)

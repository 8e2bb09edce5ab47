"""The handlers of ``/api/eval``."""

from __future__ import annotations

import math

import msgspec
from aiohttp import web

from crucible.api.app_keys import FORGETTER, SERVICE, SETTINGS
from crucible.api.callers import caller_of
from crucible.api.fast_path.head import MAX_KEY_LENGTH
from crucible.api.history import past
from crucible.api.problems import not_submitted
from crucible.errors import BrokerError, LegacyError, NotFound, ParameterError
from crucible.evaluation.record import task_id_of
from crucible.evaluation.request import decode_request
from crucible.http.answers import json_answer
from crucible.http.body import read_body
from crucible.http.preferences import preferred_wait
from crucible.http.problems import IDEMPOTENCY_KEY
from crucible.http.query import flag_of
from crucible.models import ENDED, Evaluation

JSON_TYPE = "application/json"

_encode = msgspec.json.Encoder().encode


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a 202: the evaluation is durably queued.

    Attributes:
        eval_id: its id.
        task_id: id of its Celery task.
        status: ``queued``.
        queue: the queue its message is in.
        queue_system: ``celery`` or ``legacy``.
        href: path of the evaluation.
    """

    eval_id: str
    task_id: str
    status: str
    queue: str
    queue_system: str
    href: str


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a purge.

    Attributes:
        eval_id: the id, which is unknown from now on.
        purged: true.
    """

    eval_id: str
    purged: bool = True


async def submit(request: web.Request) -> web.Response:
    """``POST /api/eval``: queue one program; with ``?wait=`` the answer is the ended evaluation.

    Plain submissions do not come here where all evaluations go to Celery queues: their connection
    answers them (``api.fast_path``) and leaves to this handler what it cannot answer.
    """
    if request.content_type != JSON_TYPE and not request.content_type.endswith("+json"):
        # Any web page can have a browser send other types to a loopback address without asking.
        raise web.HTTPUnsupportedMediaType(text=f"the Content-Type must be {JSON_TYPE}")
    wait_s = wait_of(request)
    asked = decode_request(await read_body(request, "CRUCIBLE_MAX_BODY_KB"))
    service, caller, key = request.app[SERVICE], caller_of(request), key_of(request)
    ended = None
    try:
        if wait_s is None:
            submitted = await service.submit(caller, asked, key)
        else:
            submitted, ended = await service.submit_and_wait(caller, asked, key, wait_s)
    except (BrokerError, LegacyError) as error:
        return not_submitted(error, named=bool(asked.eval_id or key))
    rate = {} if submitted.rate is None else submitted.rate.headers()
    if ended is not None:
        return _json(ended, headers=rate)
    eval_id = submitted.eval_id
    if not submitted.new:
        return _json(await service.look_up(caller, eval_id), headers=rate)
    accepted = Accepted(
        eval_id=eval_id,
        task_id=task_id_of(eval_id),
        status="queued",
        queue=submitted.queue,
        queue_system=submitted.queue_system,
        href=f"/api/eval/{eval_id}",
    )
    return web.Response(
        body=_encode(accepted),
        status=202,
        content_type=JSON_TYPE,
        headers={"Location": accepted.href, **rate},
    )


async def show(request: web.Request) -> web.Response:
    """``GET /api/eval/{eval_id}``: the evaluation now; with ``?wait=`` once it has ended."""
    caller, eval_id = caller_of(request), request.match_info["eval_id"]
    service, wait_s = request.app[SERVICE], wait_of(request)
    try:
        evaluation = await service.look_up(caller, eval_id)
    except NotFound:
        # Its result has expired, or it was never there.
        known = await past(request, eval_id)
        if known is None:
            raise
        return _json(known)
    if wait_s and evaluation.status not in ENDED and await service.wait(caller, eval_id, wait_s):
        evaluation = await service.look_up(caller, eval_id)
    return _json(evaluation)


async def cancel(request: web.Request) -> web.Response:
    """``DELETE /api/eval/{eval_id}``: keep it from running, or stop it.

    200 with the evaluation if it has ended, now or before; one that had ended otherwise stays as it
    is, so asking twice does no harm. 202 while its worker has not stopped it yet. With
    ``?purge=true`` it is forgotten as well: 200, and 404 from then on.
    """
    caller, eval_id = caller_of(request), request.match_info["eval_id"]
    if flag_of(request, "purge"):
        await request.app[FORGETTER].forget(caller, eval_id)
        return json_answer(Forgotten(eval_id=eval_id))
    evaluation = await request.app[SERVICE].cancel(caller, eval_id)
    return _json(evaluation, status=200 if evaluation.status in ENDED else 202)


def wait_of(request: web.Request) -> float | None:
    """Seconds the client is willing to wait: ``?wait=``, else ``Prefer: wait=``; None without.

    Lowered to what the installation allows: the client gets a 202 then, and asks again.

    Raises:
        ParameterError: not a number of seconds.
    """
    # Most have no query, and parsing a URL is not cheap.
    text = request.query.get("wait") if "?" in request.raw_path else None
    if text is None:
        return preferred_wait(request, request.app[SETTINGS].max_wait_s)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise ParameterError("wait", "must be a number of seconds, zero or more")
    return min(seconds, request.app[SETTINGS].max_wait_s)


def key_of(request: web.Request) -> str | None:
    """The ``Idempotency-Key``; raises ParameterError where it cannot be one."""
    keys = request.headers.getall(IDEMPOTENCY_KEY, ())
    if not keys:
        return None
    if len(keys) > 1:
        raise ParameterError(IDEMPOTENCY_KEY, "must not be repeated")
    key: str = keys[0]
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        raise ParameterError(IDEMPOTENCY_KEY, f"must have 1 to {MAX_KEY_LENGTH} characters")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ParameterError(IDEMPOTENCY_KEY, "is not UTF-8") from None
    return key


def _json(
    value: Evaluation, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(body=_encode(value), status=status, content_type=JSON_TYPE, headers=headers)

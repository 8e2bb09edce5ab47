"""The handlers that run evaluations again, and that cancel many of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import CANCELLATION, RETRIES, SERVICE
from crucible.api.callers import caller_of
from crucible.api.evaluations import Accepted, key_of
from crucible.api.problems import not_submitted
from crucible.broker.admin.listing import Place
from crucible.errors import BrokerError, LegacyError, ParameterError
from crucible.evaluation.cancellation import Filters
from crucible.evaluation.record import task_id_of
from crucible.http.answers import json_answer
from crucible.http.cursors import next_cursor, place_of
from crucible.models import ENDED, Status
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from aiohttp import web

#: Statuses of evaluations that can be cancelled.
CANCELLABLE = tuple(status.value for status in Status if status not in ENDED)
#: Parameters of ``DELETE /api/eval`` that say which evaluations are meant.
FILTERS = frozenset({"status", "queue", "language", "since", "until"})


class RetryAccepted(Accepted, frozen=True, kw_only=True):
    """The body of a 202: an evaluation with the content of another one is queued.

    Attributes:
        retry_of: id of the evaluation that is repeated.
    """

    retry_of: str


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``DELETE /api/eval``.

    Attributes:
        cancelled: evaluations that this call cancelled: those that waited have ended, the workers
            of those that ran were asked to stop them.
        cursor: value of ``cursor`` to go on with; null once all queues were looked through.
    """

    cancelled: int
    cursor: str | None


async def retry(request: web.Request) -> web.Response:
    """``POST /api/eval/{eval_id}/retry``: a new evaluation with the same content."""
    caller, eval_id, key = caller_of(request), request.match_info["eval_id"], key_of(request)
    try:
        submitted = await request.app[RETRIES].retry(caller, eval_id, key)
    except (BrokerError, LegacyError) as error:
        return not_submitted(error, named=key is not None)
    if not submitted.new:
        return json_answer(await request.app[SERVICE].look_up(caller, submitted.eval_id))
    accepted = RetryAccepted(
        eval_id=submitted.eval_id,
        task_id=task_id_of(submitted.eval_id),
        status="queued",
        queue=submitted.queue,
        queue_system=submitted.queue_system,
        href=f"/api/eval/{submitted.eval_id}",
        retry_of=eval_id,
    )
    return json_answer(accepted, 202, headers={"Location": accepted.href})


async def content(request: web.Request) -> web.Response:
    """``GET /api/eval/{eval_id}/request``: what an evaluation ran, fit to be submitted again."""
    caller, eval_id = caller_of(request), request.match_info["eval_id"]
    return json_answer(await request.app[RETRIES].content(caller, eval_id))


async def cancel_many(request: web.Request) -> web.Response:
    """``DELETE /api/eval?…``: cancel what matches the filters, a bounded part in one call."""
    filters, place = _filters_of(request), place_of(request, Place)
    cancellation = request.app[CANCELLATION]
    count, following = await cancellation.cancel(caller_of(request), filters, place)
    cursor = None if following is None else next_cursor(request, following)
    return json_answer(Cancelled(cancelled=count, cursor=cursor))


def _filters_of(request: web.Request) -> Filters:
    query = request.query
    if FILTERS.isdisjoint(query):
        # A forgotten parameter must not end everything.
        raise ParameterError(
            "status", f"or another filter is required: {', '.join(sorted(FILTERS))}"
        )
    status, queue = query.get("status"), query.get("queue")
    if status is not None and status not in CANCELLABLE:
        raise ParameterError("status", f"must be {', '.join(CANCELLABLE)}: others have ended")
    if queue is not None and queue not in KNOWN_QUEUES:
        raise ParameterError("queue", f"must be one of {', '.join(KNOWN_QUEUES)}")
    return Filters(
        status=None if status is None else Status(status),
        queue=queue,
        language=query.get("language"),
        since=_moment(request, "since"),
        until=_moment(request, "until"),
    )


def _moment(request: web.Request, name: str) -> int | None:
    """A moment in milliseconds since the epoch: ISO 8601, or seconds."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            seconds = math.nan
    if not math.isfinite(seconds):
        raise ParameterError(name, "must be a time: 2026-01-31T12:00:00Z, or seconds") from None
    return round(seconds * 1000)

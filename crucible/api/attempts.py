"""The handlers that run evaluations again, and that cancel many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import CANCELLATION, RETRIES, SERVICE
from crucible.api.callers import caller_of
from crucible.api.evaluations import Accepted, key_of
from crucible.api.history import FILTERS, METADATA, filters_of
from crucible.api.problems import not_submitted
from crucible.broker.admin.listing import Place
from crucible.errors import BrokerError, LegacyError, ParameterError
from crucible.evaluation.record import task_id_of
from crucible.http.answers import json_answer
from crucible.http.cursors import next_cursor, place_of

if TYPE_CHECKING:
    from aiohttp import web

#: Parameters of ``DELETE /api/eval``, and what the names of further ones begin with.
QUERY = FILTERS | {"cursor"}, METADATA


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
    query = request.query
    if (FILTERS - {"tenant"}).isdisjoint(query) and not any(
        name.startswith(METADATA) for name in query
    ):
        # A forgotten parameter must not end everything.
        raise ParameterError(
            "status", f"or another filter is required: {', '.join(sorted(FILTERS))}"
        )
    filters, place = filters_of(request), place_of(request, Place)
    count, following = await request.app[CANCELLATION].cancel(filters, place)
    cursor = None if following is None else next_cursor(request, following)
    return json_answer(Cancelled(cancelled=count, cursor=cursor))

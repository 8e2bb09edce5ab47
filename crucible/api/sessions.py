"""The handlers of ``/api/v1/sessions``: interpreters that are kept between requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from crucible.api.app_keys import SESSIONS
from crucible.api.callers import caller_of
from crucible.errors import SessionUnavailable
from crucible.evaluation.request_errors import undecodable
from crucible.evaluation.session_service import CellRequest, SessionRequest
from crucible.executor.sessions.models import CellResult, Reason  # noqa: TC001 - msgspec reads them
from crucible.http.answers import has_hung_up, json_answer
from crucible.http.body import read_body
from crucible.models import Isolation  # noqa: TC001 - msgspec reads it
from crucible.validation import input_error

if TYPE_CHECKING:
    from aiohttp import web

    from crucible.sessions.wire import Record

T = TypeVar("T")

#: Seconds between two looks at whether the client is still there.
LOOK_S = 0.5


class SessionShown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session.

    Attributes:
        id: its id.
        status: where it stands.
        reason: why it ended; null before.
        environment: the image of its interpreter.
        isolation: what its sandbox is.
        created_at: when it was asked for.
        last_used_at: when its last cell ended; null without one.
        ended_at: when it ended; null before, and where its worker was lost.
        idle_timeout_s: seconds without a cell after which it ends.
        total_timeout_s: seconds after which it ends in any case.
        cells: run so far.
        worker: the process that keeps it.
    """

    id: str
    status: Literal["opening", "open", "ended"]
    reason: Reason | None
    environment: str
    isolation: Isolation
    created_at: str
    last_used_at: str | None
    ended_at: str | None
    idle_timeout_s: float
    total_timeout_s: float
    cells: int
    worker: str


class SessionList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``GET /api/v1/sessions``.

    Attributes:
        sessions: the open ones of the caller's tenant, the oldest first.
    """

    sessions: list[SessionShown]


async def create(request: web.Request) -> web.Response:
    """``POST /api/v1/sessions``: open one; none is left behind by a client that hangs up."""
    asked = await _body(request, SessionRequest, b"{}")
    opening = asyncio.create_task(request.app[SESSIONS].open(caller_of(request), asked))
    try:
        while not opening.done() and not has_hung_up(request):
            await asyncio.wait({opening}, timeout=LOOK_S)
    finally:
        if not opening.done():
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
    if opening.cancelled():
        raise SessionUnavailable("the client has hung up")
    record = await opening
    if has_hung_up(request):
        record = await request.app[SESSIONS].close(caller_of(request), record.id)
    return json_answer(
        shown(record), status=201, headers={"Location": f"/api/v1/sessions/{record.id}"}
    )


async def list_(request: web.Request) -> web.Response:
    """``GET /api/v1/sessions``: the open ones of the caller's tenant."""
    found = await request.app[SESSIONS].list(caller_of(request))
    return json_answer(SessionList(sessions=[shown(one) for one in found]))


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/sessions/{session_id}``."""
    session_id = request.match_info["session_id"]
    return json_answer(shown(await request.app[SESSIONS].look_up(caller_of(request), session_id)))


async def execute(request: web.Request) -> web.Response:
    """``POST /api/v1/sessions/{session_id}/execute``: run a cell, and wait for it."""
    session_id = request.match_info["session_id"]
    asked = await _body(request, CellRequest)
    result: CellResult = await request.app[SESSIONS].execute(caller_of(request), session_id, asked)
    return json_answer(result)


async def close(request: web.Request) -> web.Response:
    """``DELETE /api/v1/sessions/{session_id}``: end one; a cell that runs is killed."""
    session_id = request.match_info["session_id"]
    return json_answer(shown(await request.app[SESSIONS].close(caller_of(request), session_id)))


async def _body(request: web.Request, kind: type[T], default: bytes = b"") -> T:
    body = await read_body(request, "CRUCIBLE_MAX_BODY_KB")
    try:
        return msgspec.json.decode(body or default, type=kind)
    except msgspec.ValidationError as error:
        raise input_error(error, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise undecodable(error, body) from None


def shown(record: Record) -> SessionShown:
    """A session as clients see it."""
    fields: dict[str, Any] = {
        name: getattr(record, name)
        for name in SessionShown.__struct_fields__
        if name not in ("idle_timeout_s", "total_timeout_s", "worker")
    }
    return SessionShown(
        **fields,
        idle_timeout_s=record.idle_s,
        total_timeout_s=record.total_s,
        worker=record.host,
    )

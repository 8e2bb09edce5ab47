"""Sessions of an executor service.

``POST /sessions`` opens one and answers with a stream: a line with its id, and when it ends a line
with the reason. The session lives as long as that connection, so that none outlives its client.
``POST /sessions/{id}/execute`` runs a cell in it.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from crucible.executor.sessions.live import LiveSession, SessionLost, open_here
from crucible.executor.sessions.models import Cell, CellResult, Reason, SessionSpec
from crucible.http.body import read_body
from crucible.http.problems import problem

if TYPE_CHECKING:
    from crucible.executor.docker import DockerExecutor

STREAM = "application/vnd.crucible.session"
MSGPACK = "application/msgpack"
#: Seconds between two signs of life on an open stream, for clients that cannot else tell a lost
#: connection from a quiet session.
SIGN_S = 5.0
OPEN_SESSIONS: web.AppKey[dict[str, LiveSession]] = web.AppKey("open_sessions")


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a stream."""

    id: str


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of a stream."""

    reason: Reason


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a cell: its result, or why the session is lost."""

    result: CellResult | None = None
    lost: Reason | None = None


async def answer_session(request: web.Request, executor: DockerExecutor) -> web.StreamResponse:
    """Open a session, and keep it until it ends or its client hangs up.

    Raises:
        ExecutorError: there is no session, and nothing was sent.
    """
    try:
        spec = msgspec.msgpack.decode(await read_body(request), type=SessionSpec)
    except msgspec.DecodeError as error:
        return problem(400, "Not a session", f"not a session: {error}")
    sessions = request.app[OPEN_SESSIONS]
    async with open_here(executor, spec) as session:
        session_id = uuid.uuid4().hex
        sessions[session_id] = session
        try:
            response = web.StreamResponse(headers={"Content-Type": STREAM})
            await response.prepare(request)
            await response.write(_line(Opened(id=session_id)))
            while not session.ended.done():
                await asyncio.wait({session.ended}, timeout=SIGN_S)
                await response.write(b"\n")
            await response.write(_line(Ended(reason=session.ended.result())))
            await response.write_eof()
            return response
        finally:
            del sessions[session_id]


async def answer_cell(request: web.Request) -> web.Response:
    """Run a cell."""
    try:
        cell = msgspec.msgpack.decode(await read_body(request), type=Cell)
    except msgspec.DecodeError as error:
        return problem(400, "Not a cell", f"not a cell: {error}")
    session = request.app[OPEN_SESSIONS].get(request.match_info["session_id"])
    if session is None:
        ran = Ran(lost="unknown")
    else:
        try:
            ran = Ran(result=await session.execute(cell))
        except SessionLost as lost:
            ran = Ran(lost=lost.reason)
    return web.Response(body=msgspec.msgpack.encode(ran), content_type=MSGPACK)


def _line(message: Opened | Ended) -> bytes:
    return msgspec.json.encode(message) + b"\n"

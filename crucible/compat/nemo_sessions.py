"""NeMo-Skills' ``ipython``: cells of sessions that its clients name by ``X-Session-ID``.

Its client replays what it ran before where ``new_session_created`` says that the state is gone. So
a session that was lost is made anew by the next request for it, which says so.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import OverloadedError, clamped
from crucible.errors import (
    BrokerError,
    InputError,
    NotFound,
    SessionGone,
    SessionQuota,
    SessionUnavailable,
)
from crucible.evaluation.session_service import CellRequest, SessionRequest
from crucible.models import LIMIT_FLOORS

if TYPE_CHECKING:
    from crucible.executor.sessions.models import CellResult
    from crucible.sessions.wire import Record

HEADER = "X-Session-ID"
MAX_NAME = 200
#: Seconds that the client waits on top of a cell's own, less the way back.
PATIENCE_S = 4.0
#: Sequences that colour text on a terminal, and move about on it.
_ANSI = re.compile(r"\x1b(?:[@-Z\\-_]|\[[0-?]*[ -/]*[@-~])")


async def run_cell(request: web.Request, code: str, asked_s: float | None) -> dict[str, Any]:
    """Run a cell in the session that a request names.

    Args:
        request: the facade's.
        code: of the cell.
        asked_s: seconds that it may take; None and negative numbers take the most.

    Raises:
        InputError: it names none, or the cell cannot be.
        OverloadedError: there was no room for the session, or no turn for the cell.
    """
    context = request.app[CONTEXT]
    name = request.headers.get(HEADER)
    if not name:
        raise InputError("", f"{HEADER} header required for ipython sessions")
    if len(name) > MAX_NAME:
        raise InputError("", f"{HEADER} must be at most {MAX_NAME} characters")
    caller = context.caller_of(request)
    most_s = context.ceilings_of(request).wall_time_s
    wanted_s = most_s if asked_s is None or asked_s < 0 else asked_s
    allowed_s = clamped(wanted_s, LIMIT_FLOORS.wall_time_s, most_s)
    late = timed_out(asked_s, allowed_s)
    new = False
    try:
        record, new = await context.sessions.open_named(
            caller, SessionRequest(), name, allowed_s + PATIENCE_S
        )
        cell = CellRequest(code=code, timeout_s=allowed_s)
        return _answer(await context.sessions.execute(caller, record.id, cell), late, new=new)
    except SessionGone as gone:
        return _lost(gone, late)
    except (SessionUnavailable, SessionQuota, BrokerError) as error:
        raise OverloadedError(str(error)) from error


def _answer(result: CellResult, late: str, *, new: bool) -> dict[str, Any]:
    """As IPython writes it on a terminal: values and tracebacks are on standard output."""
    shown = [str(forms.get("text/plain", "")) for forms in result.display]
    status, stderr = "completed", result.stderr
    if result.status == "timeout":
        status, stderr = "timeout", stderr + late
    elif result.error is not None:
        status = "error"
        shown += result.error.traceback
    stdout = result.stdout + "".join(f"{line}\n" for line in shown)
    return {
        "process_status": status,
        "stdout": _plain(stdout),
        "stderr": _plain(stderr),
        "new_session_created": new,
    }


def _plain(text: str) -> str:
    """Without colours and empty lines around it: ``x`` and ``print(x)`` have the same output."""
    text = _ANSI.sub("", text).lstrip("\n").rstrip()
    return f"{text}\n" if text else ""


def timed_out(asked_s: float | None, granted_s: float) -> str:
    """What is said of a program that had its time, by the time that it had.

    Args:
        asked_s: seconds, as the client wrote them.
        granted_s: the limit.
    """
    said = asked_s if asked_s == granted_s else granted_s
    return f"Execution timed out after {said} seconds\n"


def _lost(gone: SessionGone, late: str) -> dict[str, Any]:
    if gone.reason == "cell_timeout":
        status, stderr = "timeout", late
    else:
        status, stderr = "error", f"Session error: {gone}\n"
    return {"process_status": status, "stdout": "", "stderr": stderr, "new_session_created": True}


async def list_sessions(request: web.Request) -> web.Response:
    """``GET /sessions``: those of the caller's tenant that clients have named."""
    context = request.app[CONTEXT]
    found = await context.sessions.list(context.caller_of(request))
    shown = {one.name: _shown(one) for one in found if one.name}
    return web.json_response({"sessions": shown, "backend": "ipython"})


def _shown(record: Record) -> dict[str, Any]:
    return {
        "backend": "ipython",
        "created": _seconds(record.created_at),
        "last_used": _seconds(record.last_used_at or record.created_at),
        "alive": True,
    }


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else time.time()


async def delete_session(request: web.Request) -> web.Response:
    """``DELETE /sessions/{session_id}``."""
    context = request.app[CONTEXT]
    name = request.match_info["session_id"]
    try:
        await context.sessions.close_named(context.caller_of(request), name)
    except NotFound:
        return web.json_response({"error": f"IPython session {name} not found"}, status=404)
    return web.json_response({"message": f"IPython session {name} deleted successfully"})

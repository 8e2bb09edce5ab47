"""Sessions as a client has them: an interpreter that is kept, cells in, results out.

None of these requests is sent twice: a cell that ran twice would not leave the same state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import quote

import aiohttp
import msgspec

from crucible.errors import ApiUnreached

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.client.transport import Transport
    from crucible.models import Isolation

PATH = "/api/v1/sessions"
#: Seconds that opening one may take: it waits for a worker that has room, and starts.
OPEN_S = 100.0
#: Seconds on top of a cell's own, for its turn behind others.
TURN_S = 75.0
CELL_S = 10.0


class SessionOptions(TypedDict, total=False):
    """What may come with a new session; what is left out gets the API's default.

    Attributes:
        environment: the image its interpreter runs in.
        isolation: what its sandbox is.
        limits: ``memory_mb``, ``pids`` and ``disk_mb`` of the whole session.
        idle_timeout_s: seconds without a cell after which it ends.
        total_timeout_s: seconds after which it ends in any case.
        files: ``name``, ``content`` and perhaps ``encoding`` of each file laid beside it.
    """

    environment: str
    isolation: Isolation
    limits: dict[str, int]
    idle_timeout_s: float
    total_timeout_s: float
    files: Sequence[dict[str, Any]]


class SessionShown(msgspec.Struct, frozen=True, kw_only=True):
    """A session.

    Attributes:
        id: its id.
        status: ``opening``, ``open`` or ``ended``.
        reason: why it ended; None before.
        environment: the image of its interpreter.
        isolation: what its sandbox is.
        created_at: when it was asked for.
        last_used_at: when its last cell ended.
        ended_at: when it ended.
        idle_timeout_s: seconds without a cell after which it ends.
        total_timeout_s: seconds after which it ends in any case.
        cells: run so far.
    """

    id: str
    status: str
    reason: str | None
    environment: str
    isolation: str
    created_at: str
    last_used_at: str | None
    ended_at: str | None
    idle_timeout_s: float
    total_timeout_s: float
    cells: int


class RaisedError(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell raised.

    Attributes:
        name: of the exception's class.
        value: what the exception says.
        traceback: its lines.
    """

    name: str
    value: str
    traceback: list[str]


class CellResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a cell.

    Attributes:
        status: ``ok``, ``error``, or ``timeout`` where it was interrupted.
        stdout: what it wrote.
        stderr: what it wrote on standard error.
        display: what it displayed: content by media type.
        error: what it raised; None where it came to its end.
        output_truncated: it wrote or displayed more than was kept.
        files: returned files in base64, by name.
        files_omitted: why others were not returned, by name.
        duration_ms: milliseconds it took.
    """

    status: str
    stdout: str
    stderr: str
    display: list[dict[str, Any]]
    error: RaisedError | None
    output_truncated: bool
    files: dict[str, str]
    files_omitted: dict[str, str]
    duration_ms: int


class _Listed(msgspec.Struct):
    sessions: list[SessionShown]


async def open_one(transport: Transport, options: SessionOptions) -> SessionShown:
    """Open a session; errors as of ``AsyncCrucible.open_session``."""
    body = msgspec.json.encode(options)
    return msgspec.json.decode(await _ask(transport, "POST", PATH, body, OPEN_S), type=SessionShown)


async def run_cell(
    transport: Transport, session_id: str, code: str, timeout_s: float, files: Sequence[str]
) -> CellResult:
    """Run a cell; errors as of ``AsyncCrucible.execute``."""
    body = msgspec.json.encode({"code": code, "timeout_s": timeout_s, "output_files": list(files)})
    path = f"{path_of(session_id)}/execute"
    answer = await _ask(transport, "POST", path, body, timeout_s + TURN_S)
    return msgspec.json.decode(answer, type=CellResult)


async def all_open(transport: Transport) -> list[SessionShown]:
    """The open sessions; errors as of ``AsyncCrucible.sessions``."""
    answer = await transport.ask("GET", PATH)
    return msgspec.json.decode(answer.content, type=_Listed).sessions


async def end_one(transport: Transport, session_id: str) -> SessionShown:
    """End a session; errors as of ``AsyncCrucible.close_session``."""
    answer = await transport.ask("DELETE", path_of(session_id))
    return msgspec.json.decode(answer.content, type=SessionShown)


def path_of(session_id: str) -> str:
    """The path of a session, whatever is in its id."""
    return f"{PATH}/{quote(session_id, safe='')}"


async def _ask(transport: Transport, method: str, path: str, body: bytes, wait_s: float) -> bytes:
    try:
        async with transport.sent(method, path, body=body, wait_s=wait_s) as response:
            return await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise ApiUnreached(f"the API at {transport.url} does not answer: {reason}") from error

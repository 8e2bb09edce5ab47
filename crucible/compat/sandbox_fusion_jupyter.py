"""SandboxFusion's ``/run_jupyter``: the cells of a notebook in a session of their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from aiohttp import web

from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import OverloadedError, clamped
from crucible.compat.requests import body_of
from crucible.compat.sandbox_fusion_forms import asked_files, files_of, invalid, overloaded
from crucible.errors import (
    BrokerError,
    InputError,
    SessionGone,
    SessionQuota,
    SessionUnavailable,
)
from crucible.evaluation.session_service import CellRequest, SessionLimits, SessionRequest
from crucible.executor.sessions.models import PLATFORM_REASONS
from crucible.models import LIMIT_FLOORS

if TYPE_CHECKING:
    from crucible.evaluation.session_service import SessionService
    from crucible.executor.sessions.models import CellResult
    from crucible.identity.principal import Principal
    from crucible.sessions.wire import Record

#: Cells of one request.
MAX_CELLS = 1000


class RunJupyter(msgspec.Struct, kw_only=True):
    """The body of ``/run_jupyter``; unknown fields are ignored, as there."""

    cells: list[str]
    cell_timeout: float = 0
    total_timeout: float = 45
    memory_limit_MB: int = -1  # noqa: N815 - its name
    kernel: Literal["python3"] = "python3"
    files: dict[str, str | None] = {}
    fetch_files: list[str] = []


#: Numbers in quotes are numbers, as to its framework.
_RUN_JUPYTER = msgspec.json.Decoder(RunJupyter, strict=False)


class Notebook:
    """The cells of one request, on their way.

    Args:
        sessions: keeps interpreters.
        caller: whose the session is.
        record: the session.
        asked: the request.
        most_s: the longest that a cell may take.
    """

    def __init__(
        self,
        sessions: SessionService,
        caller: Principal,
        record: Record,
        asked: RunJupyter,
        most_s: float,
    ) -> None:
        self._sessions = sessions
        self._caller = caller
        self._record = record
        self._asked = asked
        self._most_s = most_s
        self._began_s = time.monotonic()
        self.cells: list[dict[str, Any]] = []
        self.files: dict[str, str] = {}

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self._began_s

    async def run(self) -> str:
        """Run the cells and fetch the files; the status of the driver."""
        for code in self._asked.cells:
            left_s = self._asked.total_timeout - self.seconds
            if left_s <= 0:
                return "TimeLimitExceeded"
            own_s = self._asked.cell_timeout if self._asked.cell_timeout > 0 else left_s
            result = await self._cell(code, min(own_s, left_s))
            if result.status == "timeout":
                return "TimeLimitExceeded"
            self.cells.append(_cell(result))
        if self._asked.fetch_files:
            paths = asked_files(self._asked.fetch_files)
            result = await self._cell("", self._most_s, tuple(paths.values()))
            files = result.files
            self.files = {name: files[path] for name, path in paths.items() if path in files}
        return "Finished"

    async def _cell(self, code: str, wait_s: float, names: tuple[str, ...] = ()) -> CellResult:
        timeout_s = clamped(wait_s, LIMIT_FLOORS.wall_time_s, self._most_s)
        cell = CellRequest(code=code, timeout_s=timeout_s, output_files=names)
        return await self._sessions.execute(self._caller, self._record.id, cell)


async def run_jupyter(request: web.Request) -> web.Response:
    """``POST /run_jupyter``."""
    try:
        return web.json_response(await _run(request, await body_of(request, _RUN_JUPYTER)))
    except InputError as error:
        return invalid(error)
    except (SessionUnavailable, SessionQuota, BrokerError, OverloadedError) as error:
        return overloaded(error)


async def _run(request: web.Request, asked: RunJupyter) -> dict[str, Any]:
    context = request.app[CONTEXT]
    caller, ceilings = context.caller_of(request), context.ceilings_of(request)
    if len(asked.cells) > MAX_CELLS:
        raise InputError("cells", f"must be at most {MAX_CELLS} cells")
    asked_files(asked.fetch_files)
    memory_mb = asked.memory_limit_MB if asked.memory_limit_MB > 0 else ceilings.memory_mb
    limits = SessionLimits(
        memory_mb=int(clamped(memory_mb, LIMIT_FLOORS.memory_mb, ceilings.memory_mb))
    )
    wanted = SessionRequest(limits=limits, files=files_of(asked.files))
    record = await context.sessions.open(caller, wanted)
    notebook = Notebook(context.sessions, caller, record, asked, ceilings.wall_time_s)
    lost = ""
    try:
        status = await notebook.run()
    except SessionGone as gone:
        lost = gone.reason
        status = "TimeLimitExceeded" if lost == "cell_timeout" else "Error"
    finally:
        await context.sessions.close(caller, record.id)
    if lost in PLATFORM_REASONS:
        raise OverloadedError(f"the session was lost: {lost}")
    return _answer(notebook, status, lost)


def _answer(notebook: Notebook, status: str, lost: str) -> dict[str, Any]:
    finished = status == "Finished"
    return {
        "status": "Success" if finished else "Failed",
        "message": "",
        "driver": {
            "status": status,
            "execution_time": notebook.seconds,
            "return_code": 0 if finished else None if status == "TimeLimitExceeded" else 1,
            "stdout": "",
            "stderr": f"the interpreter was lost: {lost}\n" if lost else "",
        },
        "cells": notebook.cells if finished else [],
        "executor_pod_name": None,
        "files": notebook.files,
    }


def _cell(result: CellResult) -> dict[str, Any]:
    error = result.error
    return {
        "stdout": result.stdout,
        "stderr": result.stderr,
        "display": result.display,
        "error": []
        if error is None
        else [{"ename": error.name, "evalue": error.value, "traceback": error.traceback}],
    }

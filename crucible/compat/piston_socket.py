"""Piston's WebSocket, ``/api/v2/connect``.

A client sends ``init``, which is the body of ``execute``, and gets ``runtime``, then for each stage
``stage``, ``data`` and ``exit``. The program is an evaluation: its standard input comes with
``init``, and what it writes is sent once it has ended. A signal that would end a process that does
not handle it cancels the evaluation; the program itself does not see it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import WSMsgType, web

from crucible.broker.wire.ids import new_id
from crucible.compat import piston
from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import OverloadedError
from crucible.compat.piston_request import execute_of
from crucible.compat.piston_runtimes import PREFIXES
from crucible.compat.piston_signals import ENDING_NOTHING, KNOWN
from crucible.compat.requests import json_of
from crucible.errors import BrokerError, InputError, LegacyError, NotFound
from crucible.models import Status, Verdict

if TYPE_CHECKING:
    from crucible.compat.piston_request import Execute

#: Seconds until ``init`` has to be there.
INIT_S = 1.0
MAX_MESSAGE_BYTES = 8 << 20
#: Seconds between attempts to cancel what is not queued yet.
_QUEUED_LOOK_S = 0.05
#: Close codes: of what a client did wrong, and of the end.
ALREADY, INIT_TIMEOUT, NOTIFIED, NOT_YET, NOT_STDIN, BAD_SIGNAL, DONE = (
    4000, 4001, 4002, 4003, 4004, 4005, 4999,
)  # fmt: skip


async def connect(request: web.Request) -> web.WebSocketResponse:
    """``GET /api/v2/connect``: run one program over a WebSocket."""
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES)
    await socket.prepare(request)
    try:
        async with asyncio.timeout(INIT_S):
            asked = await _initialized(socket)
    except TimeoutError:
        await socket.close(code=INIT_TIMEOUT, message=b"Initialization Timeout")
        return socket
    if asked is not None:
        await _run(request, socket, asked)
    return socket


async def _initialized(socket: web.WebSocketResponse) -> Execute | None:
    """The program of the first message; None where the connection is closed for what came."""
    while (message := await _next(socket)) is not None:
        match message.get("type"):
            case "init":
                try:
                    return execute_of(message)
                except InputError as error:
                    await _notify(socket, str(error))
                    return None
            case "data" | "signal":
                await socket.close(code=NOT_YET, message=b"Not yet initialized")
                return None
            # Piston passes over any other type.
    return None


@dataclass(slots=True)
class _Job:
    """One program.

    Attributes:
        eval_id: of its evaluation.
        killed_by: the signal that the client sent to end it.
    """

    eval_id: str
    killed_by: str | None = None


async def _run(request: web.Request, socket: web.WebSocketResponse, asked: Execute) -> None:
    job = _Job(new_id())
    running = asyncio.create_task(_execute(request, socket, asked, job))
    hearing = asyncio.create_task(_hear(socket))
    try:
        await asyncio.wait({running, hearing}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            # Cancelling the wait, where it has hung up, cancels the evaluation too.
            job.killed_by = await hearing
            if job.killed_by is None:
                return
            await _kill(request, job, running)
        await running
        await socket.close(code=DONE, message=b"Job Completed")
    except (InputError, OverloadedError) as error:
        await _notify(socket, str(error))
    finally:
        for task in (running, hearing):
            task.cancel()
        await asyncio.gather(running, hearing, return_exceptions=True)


async def _kill(request: web.Request, job: _Job, running: asyncio.Task[None]) -> None:
    """Cancel its evaluation, once it is queued; what it has written so far is its result."""
    context = request.app[CONTEXT]
    while not running.done():
        try:
            await context.service.cancel(context.caller_of(request), job.eval_id)
        except NotFound:
            await asyncio.wait({running}, timeout=_QUEUED_LOOK_S)
        except (BrokerError, LegacyError) as error:
            raise OverloadedError(str(error)) from error
        else:
            return


async def _execute(
    request: web.Request, socket: web.WebSocketResponse, asked: Execute, job: _Job
) -> None:
    ran = await piston.run(
        request, asked, lambda *runtime: _announce(socket, *runtime), job.eval_id
    )
    answer, found = piston.answer_of(*ran), ran.evaluation
    compiles = request.app[CONTEXT].served.languages()[ran.language].compile is not None
    if found.verdict == Verdict.COMPILE_ERROR:
        del answer["run"]
    elif found.status is Status.CANCELLED and compiles and "compile" not in answer:
        answer = {"compile": answer["run"]}
    stages = [stage for stage in ("compile", "run") if stage in answer]
    for stage in stages:
        shown = answer[stage]
        await socket.send_json({"type": "stage", "stage": stage})
        for stream in ("stdout", "stderr"):
            if shown[stream]:
                await socket.send_json({"type": "data", "stream": stream, "data": shown[stream]})
        code, ended_by = shown["code"], shown["signal"]
        if found.status is Status.CANCELLED and stage == stages[-1]:
            code, ended_by = None, job.killed_by or "SIGKILL"
        await socket.send_json({"type": "exit", "stage": stage, "code": code, "signal": ended_by})


async def _announce(socket: web.WebSocketResponse, language: str, version: str) -> None:
    await socket.send_json({"type": "runtime", "language": language, "version": version})


async def _hear(socket: web.WebSocketResponse) -> str | None:
    """Take what comes meanwhile: the signal to end the program by, None once it has hung up."""
    while (message := await _next(socket)) is not None:
        match message.get("type"):
            case "init":
                await socket.close(code=ALREADY, message=b"Already Initialized")
            case "signal":
                name = str(message.get("signal"))
                if name not in KNOWN:
                    await socket.close(code=BAD_SIGNAL, message=b"Invalid signal")
                elif name not in ENDING_NOTHING:
                    return name
            case "data" if message.get("stream") != "stdin":
                await socket.close(code=NOT_STDIN, message=b"Can only write to stdin")
            case "data":
                await _notify(socket, "standard input has to come with init")
    return None


async def _next(socket: web.WebSocketResponse) -> dict[str, Any] | None:
    """The next message; None once there are no more."""
    received = await socket.receive()
    if received.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
        return None
    try:
        found: dict[str, Any] = json_of(received.data, dict[str, Any])
    except msgspec.DecodeError as error:
        await _notify(socket, str(error))
        return None
    return found


async def _notify(socket: web.WebSocketResponse, text: str) -> None:
    await socket.send_json({"type": "error", "message": text})
    await socket.close(code=NOTIFIED, message=b"Notified Error")


ROUTES = tuple(web.get(f"{prefix}/connect", connect) for prefix in PREFIXES)

"""Piston's WebSocket, ``/api/v2/connect``.

A client sends ``init``, which is the body of ``execute``, and gets ``runtime``, then for each stage
``stage``, ``data`` and ``exit``. The program is an evaluation: its standard input comes with
``init``, and what it writes is sent once it has ended.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import WSMsgType, web

from crucible.compat import piston
from crucible.compat.evaluating import OverloadedError
from crucible.errors import InputError
from crucible.models import Verdict

if TYPE_CHECKING:
    from crucible.compat.piston import Execute

#: Seconds until ``init`` has to be there.
INIT_S = 1.0
MAX_MESSAGE_BYTES = 8 << 20
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
    message = await _next(socket)
    if message is None:
        return None
    if message.get("type") != "init":
        await socket.close(code=NOT_YET, message=b"Not yet initialized")
        return None
    try:
        return msgspec.convert(message, piston.Execute)
    except msgspec.ValidationError as error:
        await _notify(socket, str(error))
        return None


async def _run(request: web.Request, socket: web.WebSocketResponse, asked: Execute) -> None:
    running = asyncio.create_task(_execute(request, socket, asked))
    hearing = asyncio.create_task(_hear(socket))
    try:
        await asyncio.wait({running, hearing}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
            await socket.close(code=DONE, message=b"Job Completed")
        elif (killed := await hearing) is not None:
            # Cancelling the wait cancels the evaluation.
            running.cancel()
            await asyncio.wait({running})
            exit_ = {"type": "exit", "stage": "run", "code": None, "signal": killed}
            await socket.send_json(exit_)
            await socket.close(code=DONE, message=b"Job Completed")
    except (InputError, OverloadedError) as error:
        await _notify(socket, str(error))
    finally:
        for task in (running, hearing):
            task.cancel()
        await asyncio.gather(running, hearing, return_exceptions=True)


async def _execute(request: web.Request, socket: web.WebSocketResponse, asked: Execute) -> None:
    language, version, found = await piston.run(
        request, asked, lambda *runtime: _announce(socket, *runtime)
    )
    answer = piston.answer_of(language, version, found)
    for stage in ("compile", "run"):
        if stage not in answer or (stage == "run" and found.verdict == Verdict.COMPILE_ERROR):
            continue
        ran = answer[stage]
        await socket.send_json({"type": "stage", "stage": stage})
        for stream in ("stdout", "stderr"):
            if ran[stream]:
                await socket.send_json({"type": "data", "stream": stream, "data": ran[stream]})
        exit_ = {"type": "exit", "stage": stage, "code": ran["code"], "signal": ran["signal"]}
        await socket.send_json(exit_)


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
                if name in signal.Signals.__members__:
                    return name
                await socket.close(code=BAD_SIGNAL, message=b"Invalid signal")
            case "data" if message.get("stream") != "stdin":
                await socket.close(code=NOT_STDIN, message=b"Can only write to stdin")
            case "data":
                await _notify(socket, "standard input has to come with init")
            case _:
                await _notify(socket, "the type of the message is unknown")
    return None


async def _next(socket: web.WebSocketResponse) -> dict[str, Any] | None:
    """The next message; None once there are no more."""
    received = await socket.receive()
    if received.type is not WSMsgType.TEXT:
        return None
    try:
        return msgspec.json.decode(received.data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        await _notify(socket, str(error))
        return None


async def _notify(socket: web.WebSocketResponse, text: str) -> None:
    await socket.send_json({"type": "error", "message": text})
    await socket.close(code=NOTIFIED, message=b"Notified Error")


ROUTES = tuple(web.get(f"{prefix}/connect", connect) for prefix in piston.PREFIXES)

"""Dify's code sandbox: ``/v1/sandbox/run`` and ``/v1/sandbox/dependencies``.

Its client raises where ``code`` is not 0 or ``error`` is not empty: so ``error`` says nothing of a
program that exits with 0, whatever it wrote on standard error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import (
    PLATFORM,
    TIMED_OUT,
    OverloadedError,
    evaluate,
    limits_within,
    texts,
)
from crucible.errors import InputError
from crucible.http.body import read_body

if TYPE_CHECKING:
    from crucible.models import Evaluation

LANGUAGES = {"python3": "python", "nodejs": "javascript"}
#: Seconds a program may run there by default, and that its client waits, less the way back.
RUN_S, PATIENCE_S = 15.0, 55.0


class Run(msgspec.Struct, kw_only=True):
    """The body of ``/v1/sandbox/run``; unknown fields are ignored, and so is ``enable_network``."""

    language: str
    code: str
    preload: str = ""
    enable_network: bool = False


async def run(request: web.Request) -> web.Response:
    """``POST /v1/sandbox/run``."""
    try:
        asked = msgspec.json.decode(await read_body(request), type=Run)
    except msgspec.DecodeError as error:
        return _answer(-400, str(error), None)
    language = LANGUAGES.get(asked.language)
    if language is None:
        return _answer(-400, "unsupported language", None, status=400)
    limits = limits_within(
        request.app[CONTEXT].ceilings_of(request), wall_time_s=RUN_S, cpu_time_s=RUN_S
    )
    fields: dict[str, Any] = {
        "code": f"{asked.preload}\n{asked.code}" if asked.preload else asked.code,
        "language": language,
        "limits": msgspec.to_builtins(limits),
    }
    try:
        found = await evaluate(request, fields, PATIENCE_S)
    except InputError as error:
        return _answer(-400, str(error), None)
    except OverloadedError as error:
        return overloaded(error)
    if found.verdict in PLATFORM:
        return _answer(-500, found.message or "the program could not be run", None, status=500)
    return _answer(0, "success", _data(found))


async def dependencies(request: web.Request) -> web.Response:
    """``GET /v1/sandbox/dependencies``: what programs in Python can import."""
    wheels = {wheel for one in request.app[CONTEXT].served for wheel in one.wheels}
    shown = []
    for wheel in sorted(wheels):
        name, _, version = wheel.partition("==")
        shown.append({"name": name, "version": version})
    return _answer(0, "success", {"dependencies": shown})


def _data(found: Evaluation) -> dict[str, Any]:
    stdout, stderr = texts(found)
    if found.verdict in TIMED_OUT:
        error, exit_code = "error: timeout", -1
    elif found.exit_code == 0:
        error, exit_code = "", 0
    else:
        exit_code = -1 if found.exit_code is None else found.exit_code
        said = found.message if found.exit_code is None and found.message else ""
        error = f"{said or f'process exited with code {exit_code}'}\n{stderr}".rstrip("\n")
    return {"stdout": stdout, "stderr": stderr, "error": error, "exit_code": exit_code}


def _answer(code: int, message: str, data: Any, status: int = 200) -> web.Response:
    return web.json_response({"code": code, "message": message, "data": data}, status=status)


def overloaded(_: Exception) -> web.Response:
    """The answer while programs cannot be taken."""
    return _answer(-503, "Too many requests", None, status=503)


ROUTES = (
    web.post("/v1/sandbox/run", run),
    web.get("/v1/sandbox/dependencies", dependencies),
)

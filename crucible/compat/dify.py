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
from crucible.compat.requests import body_of, runnable
from crucible.errors import InputError

if TYPE_CHECKING:
    from crucible.models import Evaluation

LANGUAGES = {"python3": "python", "nodejs": "javascript"}
#: What names of Debian's packages of Python begin with.
DEBIAN = "python3-"
#: Seconds a program may run there by default, and that its client waits, less the way back.
RUN_S, PATIENCE_S = 15.0, 55.0


class Run(msgspec.Struct, kw_only=True):
    """The body of ``/v1/sandbox/run``; unknown fields are ignored, and so is ``enable_network``.

    Its original is written in Go, which takes null for a field that is not there.
    """

    language: str
    code: str
    preload: str | None = ""
    enable_network: bool | None = False


_RUN = msgspec.json.Decoder(Run)


async def run(request: web.Request) -> web.Response:
    """``POST /v1/sandbox/run``."""
    try:
        asked = await body_of(request, _RUN)
    except InputError as error:
        return _answer(-400, str(error), None)
    for field in ("language", "code"):
        if not getattr(asked, field):
            return _answer(-400, f"{field}: must not be empty", None)
    language = LANGUAGES.get(asked.language)
    if language is None:
        return _unsupported()
    code = f"{asked.preload}\n{asked.code}" if asked.preload else asked.code
    limits = limits_within(
        request.app[CONTEXT].ceilings_of(request), wall_time_s=RUN_S, cpu_time_s=RUN_S
    )
    fields: dict[str, Any] = {
        "code": runnable(code, language),
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
    language = request.query.get("language")
    if not language:
        return _answer(-400, "language: must not be empty", None)
    if language != "python3":
        return _unsupported()
    shown: dict[str, str] = {}
    for one in request.app[CONTEXT].served:
        # Which version of a Debian package there is, the image alone knows.
        names = (name for name in one.packages if name.startswith(DEBIAN))
        shown |= {name.removeprefix(DEBIAN): "" for name in names}
    for one in request.app[CONTEXT].served:
        shown |= dict(wheel.partition("==")[::2] for wheel in one.wheels)
    listed = [{"name": name, "version": shown[name]} for name in sorted(shown)]
    return _answer(0, "success", {"dependencies": listed})


def _data(found: Evaluation) -> dict[str, Any]:
    stdout, stderr = texts(found)
    if found.verdict in TIMED_OUT:
        error, exit_code = "error: timeout", -1
    elif found.exit_code == 0:
        error, exit_code = "", 0
    else:
        exit_code = -1 if found.exit_code is None else found.exit_code
        why = found.message if found.exit_code is None else ""
        said = (f"process exited with code {exit_code}", why, stderr)
        error = "\n".join(part for part in said if part)
    return {"stdout": stdout, "stderr": stderr, "error": error, "exit_code": exit_code}


def _answer(code: int, message: str, data: Any, status: int = 200) -> web.Response:
    return web.json_response({"code": code, "message": message, "data": data}, status=status)


def _unsupported() -> web.Response:
    return _answer(-400, "unsupported language", None, status=400)


def overloaded(_: Exception) -> web.Response:
    """The answer while programs cannot be taken."""
    return _answer(-503, "Too many requests", None, status=503)


ROUTES = (
    web.post("/v1/sandbox/run", run),
    web.get("/v1/sandbox/dependencies", dependencies),
)

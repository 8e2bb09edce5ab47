"""SandboxFusion's ``/run_code`` and ``/v1/ping``; ``/run_jupyter`` is in a module of its own.

Request and answer are those of its server 0.3: a fault of the program is always a 200, and
``SandboxError``, which clients try again, is never said of one.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import (
    PLATFORM,
    TIMED_OUT,
    OverloadedError,
    evaluate,
    language_of,
    limits_within,
    seconds_of,
    texts,
)
from crucible.compat.sandbox_fusion_forms import files_of, invalid, overloaded, relative
from crucible.compat.sandbox_fusion_jupyter import run_jupyter
from crucible.errors import InputError
from crucible.http.body import read_body
from crucible.models import Verdict

if TYPE_CHECKING:
    from crucible.models import Evaluation

#: Its names of languages, and ours.
LANGUAGES = {
    "python": "python",
    "pytest": "python",
    "cpp": "cpp",
    "c": "c",
    "nodejs": "javascript",
    "javascript": "javascript",
    "go": "go",
    "java": "java",
    "php": "php",
    "bash": "bash",
    "typescript": "typescript",
    "rust": "rust",
    "lua": "lua",
    "perl": "perl",
    "ruby": "ruby",
}
#: Seconds that a client waits on top of the two limits: verl's, less the way back.
PATIENCE_S = 9.0


class RunCode(msgspec.Struct, kw_only=True):
    """The body of ``/run_code``; unknown fields are ignored, as there."""

    code: str
    language: str
    compile_timeout: float = 10
    run_timeout: float = 10
    memory_limit_MB: int = -1  # noqa: N815 - its name
    stdin: str | None = None
    files: dict[str, str | None] = {}
    fetch_files: list[str] = []


async def run_code(request: web.Request) -> web.Response:
    """``POST /run_code``."""
    try:
        asked = msgspec.json.decode(await read_body(request), type=RunCode)
        fields = _fields(request, asked)
        found = await evaluate(request, fields, _patience_s(fields))
    except msgspec.ValidationError as error:
        return invalid("body", str(error))
    except msgspec.DecodeError as error:
        return invalid("body", f"is not JSON: {error}")
    except InputError as error:
        return invalid(error.field, error.detail)
    except OverloadedError as error:
        return overloaded(error)
    return web.json_response(answer(found, asked))


async def ping(request: web.Request) -> web.Response:
    """``GET /v1/ping``."""
    return web.json_response("pong")


def _fields(request: web.Request, asked: RunCode) -> dict[str, Any]:
    ceilings = request.app[CONTEXT].ceilings_of(request)
    run = limits_within(
        ceilings,
        wall_time_s=asked.run_timeout,
        cpu_time_s=asked.run_timeout,
        memory_mb=asked.memory_limit_MB,
    )
    compiling = limits_within(
        ceilings, wall_time_s=asked.compile_timeout, cpu_time_s=asked.compile_timeout
    )
    fields: dict[str, Any] = {
        "code": asked.code,
        "language": language_of(LANGUAGES, asked.language),
        "stdin": asked.stdin or "",
        "limits": msgspec.to_builtins(run),
        "compile_limits": msgspec.to_builtins(compiling),
        "files": msgspec.to_builtins(files_of(asked.files)),
        "output_files": [relative(name) for name in asked.fetch_files],
    }
    return fields


def _patience_s(fields: dict[str, Any]) -> float:
    """How long the client waits, by the limits that the program has got."""
    wall_s: float = sum(fields[name]["wall_time_s"] for name in ("limits", "compile_limits"))
    return wall_s + PATIENCE_S


def answer(found: Evaluation, asked: RunCode) -> dict[str, Any]:
    """The body that says how a program ended."""
    compiled = found.compile if isinstance(found.compile, msgspec.Struct) else None
    compile_result = None
    if compiled is not None:
        compile_result = _result(compiled.exit_code, compiled.usage.wall_time_ms / 1000)
        compile_result["stderr"] = compiled.error
    run_result: dict[str, Any] | None = None
    status, message = "Success", ""
    if found.verdict == Verdict.COMPILE_ERROR:
        status = "Failed"
        if compiled is not None and compiled.exit_code is None and compile_result is not None:
            compile_result["status"] = "TimeLimitExceeded"
    elif found.verdict in PLATFORM:
        status, message = "SandboxError", found.message or "the program could not be run"
    else:
        run_result = _run_result(found, asked)
        if run_result["return_code"] != 0:
            status = "Failed"
    return {
        "status": status,
        "message": message,
        "compile_result": compile_result,
        "run_result": run_result,
        "executor_pod_name": None,
        "files": _files(found),
    }


def _run_result(found: Evaluation, asked: RunCode) -> dict[str, Any]:
    if found.verdict in TIMED_OUT:
        result = _result(None, asked.run_timeout)
        result["status"] = "TimeLimitExceeded"
    else:
        code = found.exit_code
        if code is None:
            # As Python's subprocess says it; a program stopped by a limit was killed.
            code = -(found.signal or 9)
        result = _result(code, seconds_of(found))
    result["stdout"], result["stderr"] = texts(found)
    return result


def _result(code: int | None, seconds: float) -> dict[str, Any]:
    return {
        "status": "Finished",
        "execution_time": seconds,
        "return_code": code,
        "stdout": "",
        "stderr": "",
    }


def _files(found: Evaluation) -> dict[str, str]:
    """Files that came back, in base64."""
    if not isinstance(found.files, dict):
        return {}
    shown = {}
    for name, file in found.files.items():
        content, encoding = file["content"], file.get("encoding", "utf-8")
        shown[name] = (
            content if encoding == "base64" else base64.b64encode(content.encode()).decode()
        )
    return shown


ROUTES = (
    web.post("/run_code", run_code),
    web.post("/run_jupyter", run_jupyter),
    web.get("/v1/ping", ping),
)

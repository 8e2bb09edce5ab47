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
from crucible.compat.requests import body_of, runnable, with_php_tag
from crucible.compat.sandbox_fusion_forms import asked_files, files_of, invalid, overloaded
from crucible.compat.sandbox_fusion_jupyter import run_jupyter
from crucible.errors import InputError
from crucible.evaluation.result import bytes_of
from crucible.executor.admission import compile_defaults
from crucible.models import CompileView, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.executor.languages import Language
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


#: Numbers in quotes are numbers, as to its framework.
_RUN_CODE = msgspec.json.Decoder(RunCode, strict=False)


async def run_code(request: web.Request) -> web.Response:
    """``POST /run_code``."""
    try:
        asked = await body_of(request, _RUN_CODE)
        fields = _fields(request, asked)
        found = await evaluate(request, fields, _patience_s(fields))
    except InputError as error:
        return invalid(error)
    except OverloadedError as error:
        return overloaded(error)
    body = answer(found, asked_files(asked.fetch_files), fields["compile_limits"])
    return web.json_response(body)


async def ping(request: web.Request) -> web.Response:
    """``GET /v1/ping``."""
    return web.json_response("pong")


def _fields(request: web.Request, asked: RunCode) -> dict[str, Any]:
    context = request.app[CONTEXT]
    ceilings = context.ceilings_of(request)
    name = language_of(LANGUAGES, asked.language)
    environment, language = context.served.find(name)
    memory_mb: int | None = None
    if asked.memory_limit_MB > 0:
        memory_mb = max(asked.memory_limit_MB, environment.least_memory_mb)
    run = limits_within(
        ceilings,
        wall_time_s=asked.run_timeout,
        cpu_time_s=asked.run_timeout,
        memory_mb=memory_mb,
    )
    compiling = limits_within(
        ceilings,
        wall_time_s=asked.compile_timeout,
        cpu_time_s=asked.compile_timeout,
        memory_mb=_compiler_memory_mb(language, memory_mb),
    )
    code = with_php_tag(asked.code) if name == "php" else asked.code
    return {
        "code": runnable(code, name),
        "language": name,
        "stdin": asked.stdin or "",
        "limits": msgspec.to_builtins(run),
        "compile_limits": msgspec.to_builtins(compiling),
        "files": msgspec.to_builtins(files_of(asked.files)),
        "output_files": list(asked_files(asked.fetch_files).values()),
    }


def _compiler_memory_mb(language: Language, memory_mb: int | None) -> int | None:
    """What a compiler gets: as much as the program, and never less than it usually has.

    Limits are asked for with the program in mind, which needs less than its compiler.
    """
    if memory_mb is None:
        return None
    return max(memory_mb, compile_defaults(language, Limits()).memory_mb)


def _patience_s(fields: dict[str, Any]) -> float:
    """How long the client waits, by the limits that the program has got."""
    wall_s: float = sum(fields[name]["wall_time_s"] for name in ("limits", "compile_limits"))
    return wall_s + PATIENCE_S


def answer(
    found: Evaluation, files: Mapping[str, str], compile_limits: Mapping[str, float]
) -> dict[str, Any]:
    """The body that says how a program ended.

    Args:
        found: the ended evaluation.
        files: paths of what was asked for, by the names in the answer.
        compile_limits: seconds that its compiler had, as in ``models.Limits``.
    """
    compile_result: dict[str, Any] | None = None
    if isinstance(found.compile, CompileView):
        compile_result = _compile_result(found, found.compile, compile_limits)
    run_result: dict[str, Any] | None = None
    status, message = "Success", ""
    if found.verdict == Verdict.COMPILE_ERROR:
        status = "Failed"
    elif found.verdict in PLATFORM:
        status, message = "SandboxError", found.message or "the program could not be run"
    else:
        run_result = _run_result(found)
        if run_result["return_code"] != 0:
            status = "Failed"
    return {
        "status": status,
        "message": message,
        "compile_result": compile_result,
        "run_result": run_result,
        "executor_pod_name": None,
        "files": _files(found, files),
    }


def _compile_result(
    found: Evaluation, compiled: CompileView, limits: Mapping[str, float]
) -> dict[str, Any]:
    code, usage = compiled.exit_code, compiled.usage
    used = {"wall_time_s": usage.wall_time_ms / 1000, "cpu_time_s": usage.cpu_time_ms / 1000}
    status = "Finished"
    if code is None and any(used[name] >= limits[name] for name in used):
        status = "TimeLimitExceeded"
    elif code is None:
        code = -(found.signal or 9)
    result = _result(code, used["wall_time_s"], status)
    said = bytes_of(compiled.error, compiled.error_encoding)
    result["stderr"] = said.decode(errors="replace")
    return result


def _run_result(found: Evaluation) -> dict[str, Any]:
    code, status = found.exit_code, "Finished"
    if found.verdict in TIMED_OUT:
        code, status = None, "TimeLimitExceeded"
    elif code is None:
        # As Python's subprocess says it; a program stopped by a limit was killed.
        code = -(found.signal or 9)
    result = _result(code, seconds_of(found), status)
    result["stdout"], result["stderr"] = texts(found)
    return result


def _result(code: int | None, seconds: float, status: str) -> dict[str, Any]:
    return {
        "status": status,
        "execution_time": seconds,
        "return_code": code,
        "stdout": "",
        "stderr": "",
    }


def _files(found: Evaluation, names: Mapping[str, str]) -> dict[str, str]:
    """Files that came back, in base64, by the names they were asked for by."""
    files = found.files if isinstance(found.files, dict) else {}
    shown = {}
    for name, path in names.items():
        if path in files:
            content, encoding = files[path]["content"], files[path].get("encoding", "utf-8")
            shown[name] = base64.b64encode(bytes_of(content, encoding)).decode()
    return shown


ROUTES = (
    web.post("/run_code", run_code),
    web.post("/run_jupyter", run_jupyter),
    web.get("/v1/ping", ping),
)

"""Piston's programs and what it says of them; ``execute`` is in ``piston_clients``."""

from __future__ import annotations

import base64
import binascii
import math
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import (
    PLATFORM,
    TIMED_OUT,
    evaluate,
    limits_within,
    seconds_of,
    texts,
)
from crucible.compat.piston_request import DEFAULTS
from crucible.compat.piston_runtimes import message, runtime_of
from crucible.compat.piston_signals import NAMES
from crucible.errors import InputError
from crucible.evaluation.limits import LimitsRequest
from crucible.evaluation.result import bytes_of
from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from crucible.compat.piston_request import Execute, File
    from crucible.models import CompileView, Evaluation

#: Seconds that open-r1 waits for an answer, less the way back.
PATIENCE_S = 28.0


class Ran(NamedTuple):
    """A program that has ended.

    Attributes:
        language: by our name.
        version: of the language.
        evaluation: how it ended.
        compile_limits: under which it was compiled.
    """

    language: str
    version: str
    evaluation: Evaluation
    compile_limits: LimitsRequest


async def run(
    request: web.Request,
    asked: Execute,
    found: Callable[[str, str], Awaitable[None]] | None = None,
    eval_id: str = "",
) -> Ran:
    """Run a program and return it ended.

    Args:
        request: the facade's.
        asked: what to run.
        found: called with language and version before it is queued.
        eval_id: its id, where the caller has to know it meanwhile.

    Raises:
        InputError: it could never run.
        OverloadedError: it has not ended in time.
    """
    language, version = await runtime_of(request, asked.language, asked.version)
    compile_limits = _limits(request, "compile", asked)
    fields = _fields(request, asked, language, compile_limits)
    if found is not None:
        await found(language, version)
    ended = await evaluate(request, fields, PATIENCE_S, eval_id)
    return Ran(language, version, ended, compile_limits)


def answer_of(
    language: str,
    version: str,
    found: Evaluation,
    compile_limits: LimitsRequest = LimitsRequest(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """The body that says how a program ended.

    A program that was not compiled has no run of its own: as there, its ``run`` is its ``compile``.
    """
    answer: dict[str, Any] = {"language": language, "version": version}
    if isinstance(found.compile, msgspec.Struct):
        answer["compile"] = _compile(found, found.compile, compile_limits)
    refused = found.verdict == Verdict.COMPILE_ERROR and "compile" in answer
    answer["run"] = answer["compile"] if refused else _run(found)
    return answer


def _fields(
    request: web.Request, asked: Execute, language: str, compile_limits: LimitsRequest
) -> dict[str, Any]:
    if not asked.files:
        raise InputError("", "files must include at least one utf8 encoded file")
    others = dict(enumerate(asked.files))
    # Others may come before it: data in base64, for one.
    first = next((number for number, file in others.items() if file.encoding == "utf8"), 0)
    code = _content(others.pop(first), first)
    try:
        text = code.decode()
    except UnicodeDecodeError:
        raise InputError("", f"files[{first}].content must be UTF-8") from None
    return {
        "code": text,
        "language": language,
        "stdin": asked.stdin,
        "args": asked.args,
        "files": [
            {
                "name": file.name or f"file{number}.code",
                "content": base64.b64encode(_content(file, number)).decode(),
                "encoding": "base64",
            }
            for number, file in others.items()
        ],
        "limits": msgspec.to_builtins(_limits(request, "run", asked)),
        "compile_limits": msgspec.to_builtins(compile_limits),
    }


def _limits(request: web.Request, stage: str, asked: Execute) -> LimitsRequest:
    ceilings = request.app[CONTEXT].ceilings_of(request)
    most = {
        f"{stage}_memory_limit": ceilings.memory_mb << 20,
        f"{stage}_timeout": round(ceilings.wall_time_s * 1000),
        f"{stage}_cpu_time": round(ceilings.cpu_time_s * 1000),
    }
    wanted = {}
    for name, limit in most.items():
        value = getattr(asked, name)
        wanted[name] = min(DEFAULTS[name], limit) if value is None else value
        if wanted[name] > limit:
            raise InputError("", f"{name} cannot exceed the configured limit of {limit}")
        if wanted[name] < 0 and wanted[name] != -1:
            raise InputError("", f"{name} must be non-negative")
    memory, wall_ms, cpu_ms = wanted.values()
    return limits_within(
        ceilings,
        wall_time_s=wall_ms / 1000,
        cpu_time_s=cpu_ms / 1000,
        memory_mb=-1 if memory < 0 else int(memory) >> 20,
    )


def _content(file: File, number: int) -> bytes:
    try:
        if file.encoding == "base64":
            return base64.b64decode(file.content, validate=True)
        if file.encoding == "hex":
            return bytes.fromhex(file.content)
    except (binascii.Error, ValueError):
        raise InputError("", f"files[{number}].content is not {file.encoding}") from None
    return file.content.encode()


def _run(found: Evaluation) -> dict[str, Any]:
    stdout, stderr = texts(found)
    stage = _stage(stdout, stderr, found.exit_code)
    if found.verdict == Verdict.COMPILE_ERROR:
        stage = _stage("", "", None)
    elif found.verdict in PLATFORM:
        stage |= {"status": "XX", "message": found.message or "the program could not be run"}
    elif found.verdict in TIMED_OUT:
        wall_clock = " (wall clock)" if found.verdict == Verdict.TIMEOUT else ""
        stage |= _killed("TO", f"Time limit exceeded{wall_clock}")
    elif found.verdict == Verdict.OUTPUT_LIMIT:
        stage |= _killed(*_TOO_LONG[len(stderr) > len(stdout)])
    elif found.exit_code is None:
        stage |= _signalled(found)
    usage = found.usage
    return stage | {
        "cpu_time": usage.cpu_time_ms if usage else 0,
        "wall_time": round(seconds_of(found) * 1000),
        "memory": usage.memory_peak_kb * 1024 if usage else 0,
    }


def _compile(found: Evaluation, compiled: CompileView, limits: LimitsRequest) -> dict[str, Any]:
    """How a compiler ended; it does not say by which limit, so what it used has to."""
    written = bytes_of(compiled.error, compiled.error_encoding).decode(errors="replace")
    stage, usage = _stage("", written, compiled.exit_code), compiled.usage
    if compiled.exit_code is not None:
        pass
    elif found.verdict in PLATFORM:
        stage |= {"status": "XX", "message": found.message}
    elif usage.wall_time_ms >= (limits.wall_time_s or math.inf) * 1000:
        stage |= _killed("TO", "Time limit exceeded (wall clock)")
    elif usage.cpu_time_ms >= (limits.cpu_time_s or math.inf) * 1000:
        stage |= _killed("TO", "Time limit exceeded")
    else:
        stage |= _signalled(found)
    return stage | {
        "cpu_time": usage.cpu_time_ms,
        "wall_time": usage.wall_time_ms,
        "memory": usage.memory_peak_kb * 1024,
    }


#: By whether it was standard error that was too long.
_TOO_LONG = {False: ("OL", "stdout length exceeded"), True: ("EL", "stderr length exceeded")}


def _killed(status: str, text: str) -> dict[str, Any]:
    return {"status": status, "code": None, "signal": "SIGKILL", "message": text}


def _signalled(found: Evaluation) -> dict[str, Any]:
    name = NAMES.get(found.signal or signal.SIGKILL)
    return {"status": "SG", "signal": name, "message": found.message}


def _stage(stdout: str, stderr: str, code: int | None) -> dict[str, Any]:
    """What a stage is that ended by itself."""
    return {
        "stdout": stdout,
        "stderr": stderr,
        "output": stdout + stderr,
        "code": code,
        "signal": None,
        "message": f"Exited with error status {code}" if code else None,
        "status": "RE" if code else None,
    }


def overloaded(error: Exception) -> web.Response:
    """The answer while programs cannot be taken."""
    return message(503, f"Resource temporarily unavailable: {error}")

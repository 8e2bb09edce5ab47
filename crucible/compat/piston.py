"""Piston's programs and ``/api/v2/runtimes``; ``execute`` is in ``piston_clients``."""

from __future__ import annotations

import base64
import binascii
import signal
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from aiohttp import web

from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import (
    PLATFORM,
    TIMED_OUT,
    evaluate,
    limits_within,
    seconds_of,
    texts,
)
from crucible.errors import InputError
from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crucible.models import Evaluation

#: Seconds that open-r1 waits for an answer, less the way back.
PATIENCE_S = 28.0
#: What other names Piston has for our languages.
ALIASES = {"javascript": ("node", "node-js", "js"), "cpp": ("c++", "g++"), "python": ("py", "py3")}
RUNTIMES = {"javascript": "node", "c": "gcc", "cpp": "gcc"}


class File(msgspec.Struct, kw_only=True):
    """One file; the first is the program."""

    content: str
    name: str | None = None
    encoding: Literal["utf8", "base64", "hex"] = "utf8"


class Execute(msgspec.Struct, kw_only=True):
    """The body of ``/api/v2/execute``; times in milliseconds, memory in bytes, -1 for the most."""

    language: str
    version: str
    files: list[File]
    stdin: str = ""
    args: list[str] = []
    compile_timeout: float = 10000
    run_timeout: float = 3000
    compile_cpu_time: float = 10000
    run_cpu_time: float = 3000
    compile_memory_limit: int = -1
    run_memory_limit: int = -1


async def run(
    request: web.Request,
    asked: Execute,
    found: Callable[[str, str], Awaitable[None]] | None = None,
    eval_id: str = "",
) -> tuple[str, str, Evaluation]:
    """Run a program; its language and version by our names, and the ended evaluation.

    Args:
        request: the facade's.
        asked: what to run.
        found: called with language and version before it is queued.
        eval_id: its id, where the caller has to know it meanwhile.

    Raises:
        InputError: it could never run.
        OverloadedError: it has not ended in time.
    """
    versions = await request.app[CONTEXT].versions()
    language = _language(request, asked, versions)
    version = versions.get(language) or "*"
    fields = _fields(request, asked, language)
    if found is not None:
        await found(language, version)
    return language, version, await evaluate(request, fields, PATIENCE_S, eval_id)


def answer_of(language: str, version: str, found: Evaluation) -> dict[str, Any]:
    """The body that says how a program ended."""
    answer: dict[str, Any] = {"language": language, "version": version, "run": _run(found)}
    compiled = found.compile if isinstance(found.compile, msgspec.Struct) else None
    if compiled is not None:
        answer["compile"] = {
            **_stage("", compiled.error, compiled.exit_code),
            "cpu_time": compiled.usage.cpu_time_ms,
            "wall_time": compiled.usage.wall_time_ms,
            "memory": compiled.usage.memory_peak_kb * 1024,
        }
    return answer


async def runtimes(request: web.Request) -> web.Response:
    """``GET /api/v2/runtimes``."""
    context = request.app[CONTEXT]
    versions = await context.versions()
    shown = []
    for name, language in context.served.languages().items():
        one: dict[str, Any] = {
            "language": name,
            "version": versions.get(name) or "0.0.0",
            "aliases": sorted({*language.aliases, *ALIASES.get(name, ())}),
        }
        if name in RUNTIMES:
            one["runtime"] = RUNTIMES[name]
        shown.append(one)
    return web.json_response(shown)


def _language(request: web.Request, asked: Execute, versions: Any) -> str:
    """Our name of the language.

    Raises:
        InputError: there is none of this name and version.
    """
    languages = request.app[CONTEXT].served.languages()
    for name, language in languages.items():
        if asked.language in (name, *language.aliases, *ALIASES.get(name, ())):
            version = versions.get(name)
            wanted = asked.version.lower().removeprefix("^").removeprefix("~").split(".x")[0]
            if wanted in ("*", "x", "") or version is None or version.startswith(wanted):
                return name
    raise InputError("", f"{asked.language}-{asked.version} runtime is unknown")


def _fields(request: web.Request, asked: Execute, language: str) -> dict[str, Any]:
    if not asked.files:
        raise InputError("", "files must contain at least one file")
    ceilings = request.app[CONTEXT].ceilings_of(request)
    program, *others = asked.files
    code = _content(program, 0)
    try:
        text = code.decode()
    except UnicodeDecodeError:
        raise InputError("", "files[0].content must be UTF-8") from None
    run = _limits(ceilings, "run", asked)
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
            for number, file in enumerate(others, 1)
        ],
        "limits": run,
        "compile_limits": _limits(ceilings, "compile", asked),
    }


def _limits(ceilings: Any, stage: str, asked: Execute) -> dict[str, Any]:
    wall_s = getattr(asked, f"{stage}_timeout") / 1000
    cpu_s = getattr(asked, f"{stage}_cpu_time") / 1000
    memory = getattr(asked, f"{stage}_memory_limit")
    if wall_s > ceilings.wall_time_s:
        most = ceilings.wall_time_s * 1000
        raise InputError("", f"{stage}_timeout cannot exceed the configured limit of {most:g}")
    if cpu_s > ceilings.cpu_time_s:
        most = ceilings.cpu_time_s * 1000
        raise InputError("", f"{stage}_cpu_time cannot exceed the configured limit of {most:g}")
    if memory > ceilings.memory_mb << 20:
        most = ceilings.memory_mb << 20
        raise InputError("", f"{stage}_memory_limit cannot exceed the configured limit of {most}")
    memory_mb = -1 if memory < 0 else memory >> 20
    limits = limits_within(ceilings, wall_time_s=wall_s, cpu_time_s=cpu_s, memory_mb=memory_mb)
    plain: dict[str, Any] = msgspec.to_builtins(limits)
    return plain


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
        stage |= {"status": "TO", "code": None, "signal": "SIGKILL", "message": found.message}
    elif found.verdict == Verdict.OUTPUT_LIMIT:
        status = "EL" if len(stderr) > len(stdout) else "OL"
        stage |= {"status": status, "code": None, "signal": "SIGKILL", "message": found.message}
    elif found.exit_code is None:
        number = found.signal or signal.SIGKILL
        stage |= {"status": "SG", "signal": signal.Signals(number).name, "message": found.message}
    elif found.exit_code:
        stage |= {"status": "RE", "message": f"Exited with error status {found.exit_code}"}
    usage = found.usage
    return stage | {
        "cpu_time": usage.cpu_time_ms if usage else 0,
        "wall_time": round(seconds_of(found) * 1000),
        "memory": usage.memory_peak_kb * 1024 if usage else 0,
    }


def _stage(stdout: str, stderr: str, code: int | None) -> dict[str, Any]:
    return {
        "stdout": stdout,
        "stderr": stderr,
        "output": stdout + stderr,
        "code": code,
        "signal": None,
        "message": None,
        "status": None,
    }


def message(status: int, text: str) -> web.Response:
    """An answer that says what is wrong."""
    return web.json_response({"message": text}, status=status)


def overloaded(error: Exception) -> web.Response:
    """The answer while programs cannot be taken."""
    return message(503, f"Resource temporarily unavailable: {error}")


PREFIXES = ("/api/v2", "/api/v2/piston")
ROUTES = tuple(web.get(f"{prefix}/runtimes", runtimes) for prefix in PREFIXES)

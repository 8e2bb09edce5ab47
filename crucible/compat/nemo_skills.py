"""NeMo-Skills' ``/execute``; sessions are in ``nemo_sessions``."""

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
from crucible.compat.nemo_sessions import (
    PATIENCE_S,
    delete_session,
    list_sessions,
    run_cell,
    timed_out,
)
from crucible.compat.requests import body_of, runnable
from crucible.errors import InputError
from crucible.models import OWN_END

if TYPE_CHECKING:
    from crucible.models import Evaluation

LANGUAGES = {"python": "python", "python3": "python", "shell": "bash"}
MOST_CHARACTERS = 1000
CUT = "<output cut>"


class Execute(msgspec.Struct, kw_only=True):
    """The body of ``/execute``; unknown fields are ignored, and null is the default.

    The time is said in the answer as it was written: 5 is not 5.0.
    """

    generated_code: str
    std_input: str | None = ""
    timeout: int | float | None = 10.0
    language: str = "ipython"
    max_output_characters: int | None = MOST_CHARACTERS


_EXECUTE = msgspec.json.Decoder(Execute)


async def execute(request: web.Request) -> web.Response:
    """``POST /execute``."""
    try:
        asked = await body_of(request, _EXECUTE)
        if asked.language == "ipython":
            ran = await run_cell(request, asked.generated_code, asked.timeout)
        else:
            fields = _fields(request, asked)
            # By the limit that the program has got: what is asked for may be no time at all.
            granted_s = fields["limits"]["wall_time_s"]
            found = await evaluate(request, fields, granted_s + PATIENCE_S)
            ran = _answer(found, asked, granted_s)
    except InputError as error:
        return _error(400, str(error))
    except OverloadedError as error:
        return overloaded(error)
    most = asked.max_output_characters
    most = MOST_CHARACTERS if most is None else most
    for stream in ("stdout", "stderr"):
        ran[stream] = _cut(ran[stream], most)
    return web.json_response(ran)


def _fields(request: web.Request, asked: Execute) -> dict[str, Any]:
    language = LANGUAGES.get(asked.language)
    if language is None:
        known = ", ".join(("ipython", *LANGUAGES))
        raise InputError("language", f"{asked.language[:40]} is not served; served are {known}")
    limits = limits_within(
        request.app[CONTEXT].ceilings_of(request),
        wall_time_s=asked.timeout,
        cpu_time_s=asked.timeout,
    )
    return {
        "code": runnable(asked.generated_code, language),
        "language": language,
        "stdin": asked.std_input or "",
        "limits": msgspec.to_builtins(limits),
    }


def _answer(found: Evaluation, asked: Execute, granted_s: float) -> dict[str, Any]:
    stdout, stderr = texts(found)
    status = "completed"
    if found.verdict in TIMED_OUT:
        status = "timeout"
        stderr += timed_out(asked.timeout, granted_s)
    elif found.verdict in PLATFORM:
        status, stderr = "error", found.message or "the program could not be run"
    elif found.exit_code is None:
        # A signal of the program's own is an exit code like any other.
        if asked.language == "shell" or found.verdict not in OWN_END:
            status = "error"
            stderr += f"{found.message or 'killed'}\n"
    elif found.exit_code and asked.language == "shell":
        status = "error"
    return {
        "process_status": status,
        "stdout": stdout,
        "stderr": stderr,
        "new_session_created": False,
    }


def _cut(text: str, most: int) -> str:
    # As there, a negative number leaves out so many characters at the end.
    return text if len(text) <= most else text[:most] + CUT


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def overloaded(error: Exception) -> web.Response:
    """The answer while programs cannot be taken: what its client takes for one to be sent again."""
    return _error(502, str(error))


ROUTES = (
    web.post("/execute", execute),
    web.get("/sessions", list_sessions),
    web.delete("/sessions/{session_id}", delete_session),
)

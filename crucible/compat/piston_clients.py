"""Piston's ``execute``, in whatever form its clients send it.

Piston wants a JSON content type, and so does this facade (415). Two packages send none and can be
had no other way: ``piston-client`` (npm) posts JSON as text by node-fetch, and ``pistonapi`` (PyPI)
posts a form. ``aio-piston`` speaks version 1 of the API, as text as well.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from crucible.compat import piston
from crucible.compat.evaluating import OverloadedError
from crucible.compat.piston_request import Execute, File, execute_of
from crucible.compat.piston_runtimes import PREFIXES, message
from crucible.compat.requests import json_of
from crucible.errors import InputError
from crucible.http.body import read_body

FORM = "application/x-www-form-urlencoded"
#: How the library names itself that ``piston-client`` is made with.
NODE_FETCH = "node-fetch"


class ExecuteV1(msgspec.Struct, kw_only=True):
    """The body of ``/api/v1/execute``; times in milliseconds."""

    language: str
    source: str
    stdin: str | None = ""
    args: list[str] | None = None
    compile_timeout: float | None = None
    run_timeout: float | None = None


async def execute(request: web.Request) -> web.Response:
    """``POST /api/v2/execute``: one program."""
    try:
        asked = await asked_in(request)
        if asked is None:
            return message(415, "requests must be of type application/json")
        return web.json_response(piston.answer_of(*await piston.run(request, asked)))
    except msgspec.DecodeError as error:
        return message(400, str(error))
    except InputError as error:
        return message(400, str(error))
    except OverloadedError as error:
        return piston.overloaded(error)


async def asked_in(request: web.Request) -> Execute | None:
    """What ``/api/v2/execute`` is asked for; None where the content type is not taken.

    Raises:
        msgspec.DecodeError: the body is no JSON.
        InputError: it is not that of a program.
    """
    kind = request.content_type
    if kind == FORM:
        return _of_form(await read_body(request))
    as_text = kind == "text/plain" and NODE_FETCH in request.headers.get("User-Agent", "")
    if kind == "application/json" or as_text:
        return execute_of(json_of(await read_body(request)))
    return None


def _of_form(body: bytes) -> Execute | None:
    """The form of ``pistonapi``, whose files are their contents; None of any other."""
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=2000)
    except ValueError:
        return None
    if not {"language", "version", "files"} <= fields.keys():
        return None
    document: dict[str, Any] = {
        "language": fields["language"][0],
        "version": fields["version"][0],
        "files": [{"content": content} for content in fields["files"]],
        "stdin": fields.get("stdin", [""])[0],
        "args": fields.get("args", []),
    }
    return execute_of(document)


async def execute_v1(request: web.Request) -> web.Response:
    """``POST /api/v1/execute``: one program of one file; the newest version of its language."""
    try:
        asked = json_of(await read_body(request), ExecuteV1)
        program = Execute(
            language=asked.language,
            version="*",
            files=[File(content=asked.source)],
            stdin=asked.stdin or "",
            args=asked.args or [],
            compile_timeout=asked.compile_timeout,
            run_timeout=asked.run_timeout,
        )
        answer = piston.answer_of(*await piston.run(request, program))
    except msgspec.DecodeError as error:
        return message(400, str(error))
    except InputError as error:
        return message(400, str(error))
    except OverloadedError as error:
        return piston.overloaded(error)
    compiled, ran = answer.get("compile"), answer["run"]
    shown = compiled if compiled is not None and compiled["code"] != 0 else ran
    streams = {name: shown[name] for name in ("output", "stdout", "stderr")}
    return web.json_response(
        {
            "ran": shown is ran and ran["code"] == 0,
            "language": answer["language"],
            "version": answer["version"],
            **streams,
        }
    )


ROUTES = (
    *(web.post(f"{prefix}/execute", execute) for prefix in PREFIXES),
    *(web.post(f"{prefix}/execute", execute_v1) for prefix in ("/api/v1", "/api/v1/piston")),
)

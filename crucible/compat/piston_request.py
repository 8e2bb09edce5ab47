"""The body of Piston's ``execute`` and ``init``, checked in its order and in its words. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from crucible.errors import InputError

Encoding = Literal["utf8", "base64", "hex"]
STAGES = ("compile", "run")
#: Kinds of limits, in Piston's order.
LIMITS = ("memory_limit", "timeout", "cpu_time")
#: What Piston takes where a limit is not named.
DEFAULTS = {
    "compile_timeout": 10_000,
    "run_timeout": 3000,
    "compile_cpu_time": 10_000,
    "run_cpu_time": 3000,
    "compile_memory_limit": -1,
    "run_memory_limit": -1,
}


class File(msgspec.Struct, kw_only=True):
    """One file; the first in UTF-8 is the program."""

    content: str
    name: str | None = None
    encoding: Encoding = "utf8"


class Execute(msgspec.Struct, kw_only=True):
    """The body of ``/api/v2/execute``; times in milliseconds, memory in bytes, -1 for the most.

    Limits that are None are those of ``DEFAULTS``, or the most where that is less.
    """

    language: str
    version: str
    files: list[File]
    stdin: str = ""
    args: list[str] = []
    compile_timeout: float | None = None
    run_timeout: float | None = None
    compile_cpu_time: float | None = None
    run_cpu_time: float | None = None
    compile_memory_limit: float | None = None
    run_memory_limit: float | None = None


def execute_of(document: Any) -> Execute:
    """What a body asks for; null and, of limits, 0 take the default, as there.

    Raises:
        InputError: without a field, in Piston's words where it has some.
    """
    fields = document if isinstance(document, dict) else {}
    return Execute(
        language=_required(fields, "language"),
        version=_required(fields, "version"),
        files=_files(fields.get("files")),
        stdin=_stdin(fields.get("stdin")),
        args=_args(fields.get("args")),
        **_limits(fields),
    )


def _required(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise InputError("", f"{name} is required as a string")
    return value


def _files(value: Any) -> list[File]:
    if not isinstance(value, list):
        raise InputError("", "files is required as an array")
    return [_file(one if isinstance(one, dict) else {}, number) for number, one in enumerate(value)]


def _file(fields: dict[str, Any], number: int) -> File:
    content, name = fields.get("content"), fields.get("name")
    if not isinstance(content, str):
        raise InputError("", f"files[{number}].content is required as a string")
    if name is not None and not isinstance(name, str):
        raise InputError("", f"files[{number}].name must be a string")
    return File(content=content, name=name or None, encoding=_encoding(fields.get("encoding")))


def _encoding(value: Any) -> Encoding:
    """An encoding; what is none of Piston's is UTF-8 to it."""
    match value:
        case "base64":
            return "base64"
        case "hex":
            return "hex"
        case _:
            return "utf8"


def _stdin(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError("", "stdin must be a string")
    return value


def _args(value: Any) -> list[str]:
    """Arguments; whole numbers are text to a program in any case."""
    found = [] if value is None else value
    if not isinstance(found, list):
        raise InputError("", "args must be an array")
    for one in found:
        if not isinstance(one, str | int) or isinstance(one, bool):
            raise InputError("", "args must be an array of strings")
    return [str(one) for one in found]


def _limits(fields: dict[str, Any]) -> dict[str, float]:
    found = {}
    for name in (f"{stage}_{kind}" for kind in LIMITS for stage in STAGES):
        value = fields.get(name)
        # As Piston, for which these are no values. An empty list is one.
        if value is None or value is False or value in ("", 0):
            continue
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InputError("", f"If specified, {name} must be a number")
        found[name] = value
    return found

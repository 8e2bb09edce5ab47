"""What a client says of a program, and the request made of it. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict
from urllib.parse import quote, urlencode

import msgspec

from crucible.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crucible.models import Isolation

_encode = msgspec.json.Encoder().encode


class ProgramOptions(TypedDict, total=False):
    """What may come with a program; what is left out gets the API's default.

    The fields are those of ``POST /api/eval``, except that ``stdin`` and the contents of ``files``
    may be bytes, and ``files`` a mapping of names to contents.
    """

    language: str
    stdin: str | bytes
    args: Sequence[str]
    env: Mapping[str, str]
    files: Mapping[str, str | bytes] | Sequence[Mapping[str, Any]]
    output_files: Sequence[str]
    limits: Mapping[str, float]
    compile_limits: Mapping[str, float]
    environment: str
    isolation: Isolation
    priority: int
    eval_id: str
    metadata: Mapping[str, Any]
    tests: Sequence[Mapping[str, Any]]
    compare: Mapping[str, Any]
    checker: Mapping[str, Any]
    interactor: Mapping[str, Any]
    stop: Literal["never", "first_failure", "group"]
    result_ttl_s: int
    webhook_url: str


class ProgramRequest(ProgramOptions, total=False):
    """A program of many: its code, and what comes with it."""

    code: Required[str]


def request_of(program: str | ProgramRequest, options: ProgramOptions | None = None) -> bytes:
    """The JSON of a submission.

    Args:
        program: its code, or its code with options of its own.
        options: of all programs; those of the program itself go before them.
    """
    fields: dict[str, Any] = dict(options or {})
    if isinstance(program, str):
        fields["code"] = program
    else:
        fields.update(program)
    if isinstance(stdin := fields.get("stdin"), bytes):
        fields["stdin"], fields["stdin_encoding"] = _text(stdin), "base64"
    files = fields.get("files")
    if files is not None and hasattr(files, "items"):
        fields["files"] = [_file(name, content) for name, content in files.items()]
    return _encode(fields)


def has_id(program: str | ProgramRequest, options: ProgramOptions | None = None) -> bool:
    """Whether the caller chose the id, by which a second submission finds the first."""
    own = not isinstance(program, str) and "eval_id" in program
    return own or "eval_id" in (options or {})


def path_of(eval_id: str) -> str:
    """The path of an evaluation; the id is one path segment, so it is quoted.

    Raises:
        ApiError: no evaluation can have this id.
    """
    # HTTP clients and proxies would resolve dot segments.
    if eval_id in ("", ".", "..") or not eval_id.isprintable():
        raise ApiError(f"{eval_id!r} is not a valid evaluation id")
    return f"/api/eval/{quote(eval_id, safe='')}"


def query_of(filters: Mapping[str, Any]) -> str:
    """A query of what is not None, with its question mark; empty where nothing is left."""
    given = {name: value for name, value in filters.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _file(name: str, content: str | bytes) -> dict[str, str]:
    if isinstance(content, bytes):
        return {"name": name, "content": _text(content), "encoding": "base64"}
    return {"name": name, "content": content}


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()

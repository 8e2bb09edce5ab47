"""What SandboxFusion's requests and answers have in common: files, and what is said of errors."""

from __future__ import annotations

import base64
import posixpath
import re
from typing import TYPE_CHECKING

from aiohttp import web

from crucible.errors import InputError
from crucible.executor.admission import check_output_files
from crucible.models import SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Its clients send placeholders under names with this, and nulls.
IGNORED = "IGNORE_THIS_FILE"
WORK = "/tmp/work"  # noqa: S108 - inside a sandbox
#: Characters that an error repeats of a path.
SHOWN = 100
#: What is said of a field that is not there, see ``crucible.validation``.
MISSING = "is missing"
#: Its names of fields, by ours.
_FIELDS = {
    "output_files": "fetch_files",
    "limits.memory_mb": "memory_limit_MB",
    "limits.wall_time_s": "run_timeout",
    "compile_limits.memory_mb": "memory_limit_MB",
    "compile_limits.wall_time_s": "compile_timeout",
}


def files_of(files: Mapping[str, str | None]) -> tuple[SourceFile, ...]:
    """Files of a request; placeholders are passed over, and of two at one place the last counts.

    Raises:
        InputError: a path is absolute and elsewhere, or a content is not base64.
    """
    found = {
        relative(name): _content(name, content)
        for name, content in files.items()
        if content is not None and IGNORED not in name
    }
    return tuple(
        SourceFile(name=name, content=content, encoding="base64") for name, content in found.items()
    )


def _content(name: str, text: str) -> str:
    """Base64 as the api takes it: clients break it into lines, as the standard once had it."""
    try:
        return base64.b64encode(base64.b64decode(text)).decode()
    except ValueError:
        raise InputError("files", f"is not valid base64: {name[:SHOWN]}") from None


def asked_files(names: Iterable[str]) -> dict[str, str]:
    """Paths below the working directory, by the names that a client asks for them by.

    What can only be a folder is passed over: there is no such file.

    Raises:
        InputError: a path is elsewhere, or no path.
    """
    found = {name: relative(name, "fetch_files") for name in names if not name.endswith("/")}
    found = {name: path for name, path in found.items() if path != "."}
    check_output_files(tuple(found.values()))
    return found


def relative(name: str, field: str = "files") -> str:
    """A path below the working directory.

    Args:
        name: the path as a client has it.
        field: where it has it.

    Raises:
        InputError: it is absolute and elsewhere.
    """
    path = posixpath.normpath(name)
    if not path.startswith("/"):
        return path
    if not path.startswith(f"{WORK}/"):
        raise InputError(field, f"must be below {WORK}: {name[:SHOWN]}")
    return posixpath.relpath(path, WORK)


def invalid(error: InputError) -> web.Response:
    """A 422 as FastAPI writes it."""
    kind = "value_error"
    if not error.field:
        kind = "json_invalid"
    elif error.detail == MISSING:
        kind = "missing"
    detail = {"loc": _place(error.field), "msg": error.detail, "type": kind}
    return web.json_response({"detail": [detail]}, status=422)


def _place(field: str) -> list[str | int]:
    """Where a field is in the body of SandboxFusion's."""
    field = _FIELDS.get(field, field)
    name, *rest = re.split(r"[.\[]", field)
    if not name:
        return ["body"]
    # Its files are an object, and ours an array.
    index = rest[0].removesuffix("]") if rest and name != "files" else ""
    place: list[str | int] = ["body", _FIELDS.get(name, name)]
    return [*place, int(index)] if index.isdigit() else place


def overloaded(error: Exception) -> web.Response:
    """The status that verl and the client package send again."""
    return web.json_response({"detail": str(error)}, status=504)

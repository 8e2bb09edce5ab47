"""What SandboxFusion's requests and answers have in common: files, and what is said of errors."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from aiohttp import web

from crucible.errors import InputError
from crucible.models import SourceFile

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Its clients send placeholders under names with this, and nulls.
IGNORED = "IGNORE_THIS_FILE"
WORK = "/tmp/work"  # noqa: S108 - inside a sandbox


def files_of(files: Mapping[str, str | None]) -> tuple[SourceFile, ...]:
    """Files of a request; placeholders are passed over.

    Raises:
        InputError: a path is absolute and elsewhere.
    """
    return tuple(
        SourceFile(name=relative(name), content=content, encoding="base64")
        for name, content in files.items()
        if content is not None and IGNORED not in name
    )


def relative(name: str) -> str:
    """A path below the working directory.

    Raises:
        InputError: it is absolute and elsewhere.
    """
    path = posixpath.normpath(name)
    if not path.startswith("/"):
        return path
    if not path.startswith(f"{WORK}/"):
        raise InputError("files", f"must be below {WORK}: {name[:100]}")
    return posixpath.relpath(path, WORK)


def invalid(field: str, detail: str) -> web.Response:
    """A 422 as FastAPI writes it."""
    where = ["body", *field.split(".")] if field and field != "body" else ["body"]
    return web.json_response(
        {"detail": [{"loc": where, "msg": detail, "type": "value_error"}]}, status=422
    )


def overloaded(error: Exception) -> web.Response:
    """The status that verl and the client package send again."""
    return web.json_response({"detail": str(error)}, status=504)

"""A submission of Judge0's as a request for an evaluation."""

from __future__ import annotations

import asyncio
import base64
import re
import shlex
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import limits_within
from crucible.compat.judge0_request import RefusedSubmission, Submission, decoded
from crucible.compat.zipped import ZipRefused, unzipped
from crucible.evaluation.judge0_form import LANGUAGES, METADATA, digest_of

if TYPE_CHECKING:
    from aiohttp import web

    from crucible.errors import InputError

#: Judge0's own limits where a submission names none: seconds, kilobytes, processes.
CPU_S, WALL_S, MEMORY_KB, PIDS = 5, 10, 128_000, 60
#: The least that Judge0 takes for each limit.
LEAST = {"cpu_time_limit": 0, "cpu_extra_time": 0, "wall_time_limit": 1, "memory_limit": 2048}
#: Bytes of an archive that are unpacked in the event loop; more are in a thread.
AT_ONCE_BYTES = 64 << 10


def refused_of(error: InputError) -> RefusedSubmission:
    """What is wrong with a submission, by Judge0's name of the field."""
    names = {
        "code": "source_code",
        "language": "language_id",
        "args": "command_line_arguments",
        "webhook_url": "callback_url",
        "files": "additional_files",
    }
    field = re.split(r"[.\[]", error.field)[0] or "base"
    return RefusedSubmission({names.get(field, field): [error.detail]})


async def fields_of(request: web.Request, asked: Submission) -> dict[str, Any]:
    """The fields of ``POST /api/eval``.

    Raises:
        RefusedSubmission: a field is missing, unknown or too low.
    """
    errors: dict[str, list[str]] = {}
    code = _bytes(request, asked.source_code)
    if not code.strip():
        errors["source_code"] = ["can't be blank"]
    if asked.language_id is None:
        errors["language_id"] = ["can't be blank"]
    elif asked.language_id not in LANGUAGES:
        errors["language_id"] = [f"language with id {asked.language_id} doesn't exist"]
    errors |= _limits_refused(asked)
    if errors:
        raise RefusedSubmission(errors)
    ceilings = request.app[CONTEXT].ceilings_of(request)
    limits = limits_within(
        ceilings,
        cpu_time_s=CPU_S if asked.cpu_time_limit is None else asked.cpu_time_limit,
        wall_time_s=WALL_S if asked.wall_time_limit is None else asked.wall_time_limit,
        memory_mb=(MEMORY_KB if asked.memory_limit is None else asked.memory_limit) / 1024,
        pids=asked.max_processes_and_or_threads or PIDS,
    )
    kept: dict[str, Any] = {"language_id": asked.language_id}
    if asked.expected_output is not None:
        kept["expected"] = digest_of(_bytes(request, asked.expected_output))
    if asked.callback_url:
        kept["callback"] = True
    if asked.redirect_stderr_to_stdout:
        kept["merged"] = True
    return {
        "code": _text("source_code", code),
        "webhook_url": asked.callback_url or None,
        "files": await _files(asked.additional_files),
        "language": LANGUAGES[asked.language_id or 0].ours,
        "stdin": base64.b64encode(_bytes(request, asked.stdin)).decode(),
        "stdin_encoding": "base64",
        "args": _arguments(asked.command_line_arguments or ""),
        "limits": msgspec.to_builtins(limits),
        "metadata": {METADATA: kept},
    }


def _limits_refused(asked: Submission) -> dict[str, list[str]]:
    """What is wrong with limits that are too low; those that are too high are lowered."""
    refused = {
        field: [f"must be greater than or equal to {least}"]
        for field, least in LEAST.items()
        if (value := getattr(asked, field)) is not None and value < least
    }
    pids = asked.max_processes_and_or_threads
    if pids is not None and pids < 1:
        refused["max_processes_and_or_threads"] = ["must be greater than 0"]
    return refused


def _arguments(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise RefusedSubmission({"command_line_arguments": [f"cannot be split: {error}"]}) from None


def is_encoded(request: web.Request) -> bool:
    """Whether texts of a request and of its answer are in base64."""
    return request.query.get("base64_encoded") == "true"


async def _files(archive: str | None) -> list[dict[str, Any]]:
    """The files of ``additional_files``, which is a zip archive in base64 in any case.

    Raises:
        RefusedSubmission: it is none, or holds what cannot be laid beside a program.
    """
    if not archive:
        return []
    content = decoded(archive)
    try:
        if len(content) <= AT_ONCE_BYTES:
            files = unzipped(content)
        else:
            files = await asyncio.to_thread(unzipped, content)
    except ZipRefused as refused:
        raise RefusedSubmission({"additional_files": [str(refused)]}) from None
    return [msgspec.to_builtins(file) for file in files]


def _bytes(request: web.Request, text: str | None) -> bytes:
    """A text of a submission, out of its base64 where it is in some."""
    if not text:
        return b""
    return decoded(text) if is_encoded(request) else text.encode()


def _text(field: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RefusedSubmission({field: ["is not UTF-8"]}) from None

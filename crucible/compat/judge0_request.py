"""The bodies of Judge0's submissions: each field as its type, or what is wrong with it. Pure."""

from __future__ import annotations

import base64
import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

BATCH = 20
#: Texts, numbers and whole numbers that are read.
TEXTS = (
    "source_code",
    "stdin",
    "expected_output",
    "command_line_arguments",
    "callback_url",
    "additional_files",
)
NUMBERS = ("cpu_time_limit", "cpu_extra_time", "wall_time_limit", "memory_limit")
WHOLE = ("language_id", "max_processes_and_or_threads")
_MERGED = "redirect_stderr_to_stdout"
#: A number as text, which forms send.
_NUMERIC = re.compile(r"\s*[+-]?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,3})?\s*", re.ASCII)
_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/]+")


class RefusedSubmission(Exception):  # noqa: N818 - an answer
    """A 422: texts by field."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        super().__init__(errors)
        self.errors = errors


class Submission(msgspec.Struct, kw_only=True):
    """A submission; limits in seconds and kilobytes, None for Judge0's own default."""

    source_code: str | None = None
    language_id: int | None = None
    stdin: str | None = None
    expected_output: str | None = None
    cpu_time_limit: float | None = None
    cpu_extra_time: float | None = None
    wall_time_limit: float | None = None
    memory_limit: float | None = None
    max_processes_and_or_threads: int | None = None
    command_line_arguments: str | None = None
    callback_url: str | None = None
    additional_files: str | None = None
    redirect_stderr_to_stdout: bool | None = False


class SubmissionBatch(msgspec.Struct, kw_only=True):
    """The body of ``/submissions/batch``."""

    submissions: list[Submission] = []


def submission_from(document: Any) -> Submission:
    """What a document submits; numbers may be texts, and empty ones are none.

    Raises:
        RefusedSubmission: a field is of another type, or it is no object.
    """
    if not isinstance(document, dict):
        raise RefusedSubmission({"submission": ["must be an object"]})
    found: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name in TEXTS:
        found[name] = document.get(name)
        if found[name] is not None and not isinstance(found[name], str):
            errors[name] = ["must be a string"]
    for name in (*NUMBERS, *WHOLE):
        try:
            found[name] = _number(document.get(name), whole=name in WHOLE)
        except ValueError:
            errors[name] = ["is not a number"]
    if errors:
        raise RefusedSubmission(errors)
    return Submission(**found, redirect_stderr_to_stdout=_is_on(document.get(_MERGED)))


def _is_on(value: Any) -> bool:
    """A flag as Rails reads it: what is none of these is on."""
    return value not in (None, False, 0, "", "0", "f", "F", "false", "FALSE", "off", "OFF")


def _number(value: Any, *, whole: bool) -> float | None:
    if isinstance(value, str):
        if not value.strip():
            return None
        if not _NUMERIC.fullmatch(value):
            raise ValueError(value)
        value = float(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return int(value) if whole else value


def decoded(text: str) -> bytes:
    """Base64 as Judge0 reads it: what is none of its characters counts for nothing."""
    digits = _NO_BASE64.sub("", text.partition("=")[0])
    if len(digits) % 4 == 1:
        digits = digits[:-1]  # six bits are no byte
    return base64.b64decode(digits + "=" * (-len(digits) % 4))

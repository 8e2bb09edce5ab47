"""Tests of ``crucible submit --tests``: a folder with pairs of files, or a JSON file."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import msgspec
import typer

from crucible.errors import ApiError

#: Suffixes of expected answers; the first that is there counts.
ANSWERS = (".out", ".ans")
INPUT = ".in"
#: What a JSON file may have beside its tests.
_FIELDS = frozenset(
    {"tests", "compare", "checker", "interactor", "stop", "limits", "files", "args", "env"}
)


def read_tests(path: Path, *, judged: bool) -> dict[str, Any]:
    """The fields of a request that a folder or a file of tests stands for.

    Args:
        path: a folder with ``NAME.in`` and ``NAME.out`` or ``NAME.ans``, or a JSON file with a list
            of tests, or with an object that has them as ``tests``.
        judged: a checker or an interactor judges, so that a test needs no answer.

    Raises:
        ApiError: it cannot be read, or has no tests.
    """
    if not path.is_dir():
        return _from_json(path)
    tests = [_from_pair(file, judged=judged) for file in sorted(path.glob("*.in"), key=_in_order)]
    if not tests:
        raise ApiError(f"{path} has no tests: files NAME{INPUT} beside NAME{ANSWERS[0]}")
    return {"tests": tests}


def read_grader(path: Path, language: str) -> dict[str, str]:
    """A checker or an interactor as the request has it."""
    return {"language": language, "code": _read(path).decode(errors="replace")}


def _from_json(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(_read(path))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(f"{path} is not JSON: {error}") from None
    fields = {"tests": found} if isinstance(found, list) else found
    if not isinstance(fields, dict) or not isinstance(fields.get("tests"), list):
        raise ApiError(f"{path} is neither a list of tests nor an object with `tests`")
    if unknown := sorted(fields.keys() - _FIELDS):
        raise ApiError(f"{path}: {unknown[0]} is no field of a file of tests")
    return fields


def _from_pair(file: Path, *, judged: bool) -> dict[str, Any]:
    test: dict[str, Any] = {"id": file.stem, **_text("stdin", _read(file))}
    answers = [file.with_suffix(suffix) for suffix in ANSWERS]
    answer = next((one for one in answers if one.is_file()), None)
    if answer is not None:
        test |= _text("expected", _read(answer))
    elif not judged:
        names = " nor ".join(one.name for one in answers)
        raise ApiError(f"{file} has neither {names} beside it")
    return test


def _text(field: str, content: bytes) -> dict[str, str]:
    try:
        return {field: content.decode()}
    except UnicodeDecodeError:
        encoded = base64.b64encode(content).decode()
        return {field: encoded, f"{field}_encoding": "base64"}


def _in_order(file: Path) -> list[tuple[int, str]]:
    """``2`` before ``10``, and ``a2`` before ``a10``."""
    parts = re.split(r"(\d+)", file.stem)
    return [(int(part) if part.isdigit() else -1, part) for part in parts]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ApiError(f"cannot read {path}: {error.strerror}") from None


def check_together(tests: Path | None, **others: object) -> None:
    """Refuse options that mean nothing without tests.

    Raises:
        typer.BadParameter: one was given.
    """
    for name, value in others.items():
        if tests is None and value is not None:
            raise typer.BadParameter("needs --tests", param_hint=f"--{name}")

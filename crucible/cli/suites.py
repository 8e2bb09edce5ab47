"""Suites on disk: a JSON or TOML file, or a folder of programs."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import typer

from crucible.cli.submit import LANGUAGE_OF_SUFFIX
from crucible.cli.tests_files import read_tests
from crucible.errors import ApiError

#: What a folder's own description is called.
_DESCRIPTIONS = ("suite.toml", "suite.json")


def read_suite(path: Path) -> dict[str, Any]:
    """The body of ``POST /assessments`` for a suite on disk.

    A case may name a ``file`` instead of its ``code``, and a folder with NAME.in and NAME.out (or
    a JSON file) as its ``tests``; both are relative to the suite. In a folder without a
    description every program is a case, with NAME.in on its standard input and NAME.out expected.

    Args:
        path: a file, or a folder with ``suite.toml``, ``suite.json`` or programs.

    Raises:
        typer.BadParameter: it cannot be used; the file and the case are named.
    """
    if path.is_dir():
        described = next((path / name for name in _DESCRIPTIONS if (path / name).is_file()), None)
        if described is None:
            return _folder(path)
        path = described
    suite = _parsed(path)
    suite.setdefault("name", path.parent.name if path.name in _DESCRIPTIONS else path.stem)
    cases = suite.get("cases")
    if not isinstance(cases, list) or not cases:
        raise _wrong(path, "cases", "must not be empty: a suite needs at least one case")
    suite["cases"] = [_case(path, number, case) for number, case in enumerate(cases)]
    return suite


def _parsed(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="SUITE") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path}: is not UTF-8", param_hint="SUITE") from None
    try:
        suite = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="SUITE") from None
    if not isinstance(suite, dict):
        raise typer.BadParameter(f"{path}: must be an object with cases", param_hint="SUITE")
    return suite


def _case(path: Path, number: int, case: object) -> dict[str, Any]:
    place = f"cases[{number}]"
    if not isinstance(case, dict):
        raise _wrong(path, place, "must be an object")
    case = dict(case)
    if "file" in case:
        if "code" in case:
            raise _wrong(path, f"{place}.file", "must not come beside code")
        program = path.parent / str(case.pop("file"))
        case["code"] = _text(path, f"{place}.file", program)
        case.setdefault("name", program.stem)
        if "language" not in case and program.suffix in LANGUAGE_OF_SUFFIX:
            case["language"] = LANGUAGE_OF_SUFFIX[program.suffix]
    if isinstance(case.get("tests"), str):
        try:
            judged = "checker" in case or "interactor" in case
            case |= read_tests(path.parent / case["tests"], judged=judged)
        except ApiError as error:
            raise _wrong(path, f"{place}.tests", str(error)) from None
    return case


def _text(path: Path, place: str, file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise _wrong(path, place, f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _wrong(path, place, f"{file}: is not UTF-8") from None


def _wrong(path: Path, place: str, detail: str) -> typer.BadParameter:
    return typer.BadParameter(f"{path}: {place}: {detail}", param_hint="SUITE")


def _folder(folder: Path) -> dict[str, Any]:
    """Every program of a folder as a case."""
    programs = sorted(
        file for file in folder.rglob("*") if file.suffix in LANGUAGE_OF_SUFFIX and file.is_file()
    )
    if not programs:
        raise typer.BadParameter(
            f"{folder}: has neither programs nor a suite.toml or suite.json", param_hint="SUITE"
        )
    return {
        "name": folder.resolve().name,
        "cases": [_program(folder, file) for file in programs],
    }


def _program(folder: Path, file: Path) -> dict[str, Any]:
    name = file.relative_to(folder).as_posix()
    case = {
        "name": name,
        "code": _text(folder, name, file),
        "language": LANGUAGE_OF_SUFFIX[file.suffix],
    }
    given, expected = file.with_suffix(".in"), file.with_suffix(".out")
    stdin = _text(folder, given.name, given) if given.is_file() else ""
    if expected.is_file():
        wanted = _text(folder, expected.name, expected)
        return {**case, "tests": [{"id": file.stem, "stdin": stdin, "expected": wanted}]}
    return {**case, "stdin": stdin} if stdin else case

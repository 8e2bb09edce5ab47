"""Programs to compare: a corpus, a file, or a sample of what clients submitted lately."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crucible.errors import InputError
from crucible.evaluation.request import EvalRequest, decode_request
from crucible.validation import input_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LANGUAGE_OF_SUFFIX = {".py": "python", ".js": "javascript", ".sh": "bash", ".c": "c"}
#: What a description beside a source may say that a request understands as it is.
_FIELDS = ("stdin", "args", "env", "files", "limits", "language")


class Named(NamedTuple):
    """A program and what a report calls it."""

    name: str
    asked: EvalRequest


def from_corpus(folder: Path) -> list[Named]:
    """Every source of a folder; ``NAME.toml`` beside one says what the program is given.

    Raises:
        InputError: the folder holds no program, or a description cannot be used.
    """
    sources = sorted(p for p in folder.glob("*") if p.suffix in LANGUAGE_OF_SUFFIX)
    # A file beside a description of another name is a part of that program, not one of its own.
    described = {path.stem for path in folder.glob("*.toml")}
    found = [_from_source(p) for p in sources if not described or p.stem in described]
    if not found:
        raise InputError("--corpus", f"{folder} holds no program")
    return found


def _from_source(source: Path) -> Named:
    fields: dict[str, Any] = {
        "code": source.read_text("utf-8"),
        "language": LANGUAGE_OF_SUFFIX[source.suffix],
    }
    description = source.with_suffix(".toml")
    if description.exists():
        try:
            described = tomllib.loads(description.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(description.name, str(error)) from None
        fields |= {name: described[name] for name in _FIELDS if name in described}
        if "stdin_base64" in described:
            fields |= {"stdin": described["stdin_base64"], "stdin_encoding": "base64"}
    try:
        return Named(source.stem, msgspec.convert(fields, EvalRequest))
    except msgspec.ValidationError as error:
        raise input_error(error) from None


def from_file(path: Path) -> list[Named]:
    """A source, or requests as the API takes them: one JSON object, or one a line.

    Raises:
        InputError: the file cannot be used.
    """
    try:
        if path.suffix in LANGUAGE_OF_SUFFIX:
            return [_from_source(path)]
        return list(_requests(path.name, path.read_bytes()))
    except OSError as error:
        raise InputError("--file", f"{path}: {error.strerror}") from None


def _requests(name: str, content: bytes) -> Iterator[Named]:
    try:
        yield Named(name, decode_request(content))
        return
    except InputError as error:
        if b"\n" not in content.strip():
            raise error from None
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            yield Named(f"{name}:{number}", decode_request(line))

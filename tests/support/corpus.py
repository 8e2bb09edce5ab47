"""Real programs with their expected outcomes: the corpus in ``tests/data/corpus``.

A program is a pair of files, ``NAME.EXT`` (its source) and ``NAME.toml`` (its input and expected
outcome); ``tests/data/corpus/README.md`` documents the format key by key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from crucible.models import OWN_END, Limits, Program, SourceFile, Verdict
from support.observed import Observed

__all__ = ["CORPUS", "CorpusError", "CorpusProgram", "ExpectedBytes", "Observed", "load_corpus"]

CORPUS = Path(__file__).parents[1] / "data" / "corpus"
EXTENSIONS = {"python": "py", "javascript": "js", "bash": "sh", "c": "c"}


class CorpusError(ValueError):
    """A program's description is invalid; the message names the file."""


class _Expect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[expect]`` table of the file."""

    verdict: Verdict
    truncated: bool
    exit_code: int | None = None
    signal: int | None = None
    stdout: str | None = None
    stdout_base64: str | None = None
    stdout_regex: str | None = None
    stdout_bytes: int | None = None
    stdout_sha256: str | None = None
    stderr: str | None = None
    stderr_base64: str | None = None
    stderr_regex: str | None = None
    stderr_bytes: int | None = None
    stderr_sha256: str | None = None


class _Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``.toml`` file."""

    about: str
    language: str
    deterministic: bool
    expect: _Expect
    stdin: str | None = None
    stdin_base64: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    files: tuple[SourceFile, ...] = ()
    limits: dict[str, int | float] = {}


@dataclass(frozen=True)
class ExpectedBytes:
    """Expected content of a stream: exact bytes, a size with a digest, or a pattern.

    Attributes:
        exact: the bytes, if they are given in full.
        pattern: matched against the whole text; ``.`` matches newlines as well.
        size: number of bytes, together with ``sha256``.
        sha256: their digest in hexadecimal.
    """

    exact: bytes | None = None
    pattern: str | None = None
    size: int = 0
    sha256: str = ""

    def mismatch(self, stream: str, seen: bytes) -> str | None:
        """How ``seen`` differs, or None if it does not."""
        if self.exact is not None:
            wanted, right = repr(_shown(self.exact)), seen == self.exact
        elif self.pattern is not None:
            wanted = f"a match of {self.pattern!r}"
            text = seen.decode(errors="surrogateescape")
            right = re.fullmatch(self.pattern, text, re.DOTALL) is not None
        else:
            wanted = f"{self.size} bytes with SHA-256 {self.sha256}"
            right = len(seen) == self.size and hashlib.sha256(seen).hexdigest() == self.sha256
        return (
            None
            if right
            else f"{stream}: expected {wanted}, got {len(seen)} bytes {_shown(seen)!r}"
        )


@dataclass(frozen=True)
class CorpusProgram:
    """One program of the corpus.

    Attributes:
        name: file name without extension, such as ``python-sieve``.
        about: one line of description.
        deterministic: whether two runs give the same bytes.
        limits: only the limits that differ from the defaults.
        exit_code: expected exit code; None if the program does not exit by itself.
        signal: expected signal; None for none or, with a verdict about a limit, for any.
    """

    name: str
    about: str
    language: str
    code: str
    deterministic: bool
    stdin: bytes
    args: tuple[str, ...]
    env: dict[str, str]
    files: tuple[SourceFile, ...]
    limits: dict[str, int | float]
    verdict: Verdict
    exit_code: int | None
    signal: int | None
    stdout: ExpectedBytes
    stderr: ExpectedBytes
    truncated: bool

    def program(self) -> Program:
        """The program for an executor."""
        return Program(
            language=self.language,
            code=self.code,
            stdin=self.stdin,
            args=self.args,
            env=dict(self.env),
            files=self.files,
            limits=msgspec.convert(self.limits, Limits),
            eval_id=f"corpus-{self.name}",
        )

    def request(self) -> dict[str, Any]:
        """The program as the body of ``POST /api/eval``, without an ``eval_id``."""
        body: dict[str, Any] = {"code": self.code, "language": self.language}
        if self.stdin:
            body |= _stdin_fields(self.stdin)
        if self.args:
            body["args"] = list(self.args)
        if self.env:
            body["env"] = dict(self.env)
        if self.files:
            body["files"] = [msgspec.to_builtins(file) for file in self.files]
        if self.limits:
            body["limits"] = dict(self.limits)
        return body

    def check(self, observed: Observed) -> list[str]:
        """Every difference of ``observed`` from what is expected."""
        found = [
            f"{field}: expected {wanted!r}, got {seen!r}"
            for field, wanted, seen in (
                ("verdict", self.verdict.value, observed.verdict),
                ("exit_code", self.exit_code, observed.exit_code),
                ("signal", self.signal, observed.signal),
                ("truncated", self.truncated, observed.truncated),
            )
            if wanted != seen and not (field == "signal" and self._any_signal)
        ]
        streams = (
            self.stdout.mismatch("stdout", observed.stdout),
            self.stderr.mismatch("stderr", observed.stderr),
        )
        return found + [sentence for sentence in streams if sentence]

    @property
    def _any_signal(self) -> bool:
        """Whether the signal is as expected; any will do when the platform stopped the program."""
        return self.signal is None and self.verdict not in OWN_END


def load_corpus(folder: Path = CORPUS) -> list[CorpusProgram]:
    """Every program of ``folder``, by name.

    Raises:
        CorpusError: a description is invalid, or a source or a description has no counterpart.
    """
    cases = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    sources = [p for p in folder.iterdir() if p.suffix.lstrip(".") in EXTENSIONS.values()]
    for source in sources:
        if source.stem not in cases:
            raise CorpusError(f"{source.name}: has no {source.stem}.toml beside it")
    return [_load(path) for path in cases.values()]


def _load(path: Path) -> CorpusProgram:
    try:
        case = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Case)
        return _assemble(path, case)
    except (msgspec.ValidationError, ValueError, OSError, re.error) as error:
        raise CorpusError(f"{path.name}: {error}") from error


def _assemble(path: Path, case: _Case) -> CorpusProgram:
    if case.language not in EXTENSIONS:
        raise ValueError(f"language: {case.language!r} is not one of {sorted(EXTENSIONS)}")
    _check_end(case.expect)
    msgspec.convert(case.limits, Limits)
    source = path.with_suffix(f".{EXTENSIONS[case.language]}")
    return CorpusProgram(
        name=path.stem,
        about=case.about,
        language=case.language,
        code=source.read_bytes().decode("utf-8"),
        deterministic=case.deterministic,
        stdin=_base64("stdin", case.stdin_base64)
        if case.stdin_base64
        else (case.stdin or "").encode(),
        args=case.args,
        env=case.env,
        files=case.files,
        limits=case.limits,
        verdict=case.expect.verdict,
        exit_code=case.expect.exit_code,
        signal=case.expect.signal,
        stdout=_stream(case.expect, "stdout"),
        stderr=_stream(case.expect, "stderr"),
        truncated=case.expect.truncated,
    )


def _check_end(expect: _Expect) -> None:
    """Check that the expected outcome is complete and consistent."""
    code, signal = expect.exit_code, expect.signal
    right = {
        Verdict.OK: code == 0 and signal is None,
        Verdict.NONZERO_EXIT: code is not None and 0 < code < 256 and signal is None,
        Verdict.SIGNALLED: code is None and signal is not None and signal > 0,
        # A program past a limit may still have exited by itself.
    }.get(expect.verdict, code is None or signal is None)
    if not right:
        raise ValueError(
            f"expect: verdict {expect.verdict.value} with exit_code {code}, signal {signal}"
        )


def _stream(expect: _Expect, stream: Literal["stdout", "stderr"]) -> ExpectedBytes:
    """The one form in which ``stream`` is given."""
    text, encoded, pattern, size, digest = (
        getattr(expect, stream + form) for form in ("", "_base64", "_regex", "_bytes", "_sha256")
    )
    forms = [text, encoded, pattern, size if digest is None else digest]
    if sum(form is not None for form in forms) != 1 or (size is None) != (digest is None):
        raise ValueError(
            f"expect: {stream} must be given once: as {stream}, {stream}_base64, {stream}_regex, "
            f"or {stream}_bytes with {stream}_sha256"
        )
    if pattern is not None:
        re.compile(pattern)
        return ExpectedBytes(pattern=pattern)
    if digest is not None:
        return ExpectedBytes(size=size, sha256=digest)
    return ExpectedBytes(
        exact=text.encode() if text is not None else _base64(f"expect.{stream}", encoded)
    )


def _stdin_fields(stdin: bytes) -> dict[str, str]:
    try:
        return {"stdin": stdin.decode("utf-8")}
    except UnicodeDecodeError:
        return {"stdin": base64.b64encode(stdin).decode(), "stdin_encoding": "base64"}


def _base64(field: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{field}: not base64: {error}") from error


def _shown(data: bytes, most: int = 2000) -> str:
    """``data`` for an error message: truncated, and as text if it is text."""
    return data[:most].decode(errors="backslashreplace")

"""What a compiler made of a program: the files that a sandbox is handed to run it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from crucible.models import CompileReport, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable


class ArtifactFile(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled file.

    Attributes:
        name: relative path below the working directory.
        content: its bytes.
        executable: its owner may start it.
    """

    name: str
    content: bytes
    executable: bool = False


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """What one compiler run left, beside the files it was given.

    Attributes:
        files: those that are new or changed.
    """

    files: tuple[ArtifactFile, ...] = ()

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return sum(len(file.content) + len(file.name) + 200 for file in self.files)

    def digest(self) -> bytes:
        """A hash of names, contents and modes."""
        return digest_of(
            part
            for file in self.files
            for part in (file.name.encode(), file.content, b"x" if file.executable else b"-")
        )


def digest_of(parts: Iterable[bytes]) -> bytes:
    """A hash of byte strings, each with its length, so that no two lists have the same."""
    found = hashlib.blake2b(digest_size=32)
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.digest()


class Compilation(msgspec.Struct, frozen=True, kw_only=True):
    """How compiling a program ended.

    Attributes:
        verdict: ``ok``, ``compile_error``, or ``internal_error`` where the platform failed.
        message: one sentence for people about it, or None.
        signal: number of the signal that ended the compiler, or None.
        report: what a client is shown.
        artifact: what was compiled; None unless the verdict is ``ok``.
        output_truncated: the compiler wrote more than was kept.
        run_s: seconds from handing the program over to the compiler's end; 0 when none ran.
    """

    verdict: Verdict
    message: str | None = None
    signal: int | None = None
    report: CompileReport = CompileReport()
    artifact: Artifact | None = None
    output_truncated: bool = False
    run_s: float = 0.0


class CompiledProgram(msgspec.Struct, frozen=True, kw_only=True):
    """A program and what was made of it, on the way to an executor service."""

    program: Program
    artifact: Artifact

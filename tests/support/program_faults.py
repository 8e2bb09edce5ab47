"""Programs that something in a sandbox once got wrong: ``tests/data/program_faults.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from crucible.models import Isolation, Limits, Outcome, Program, SourceFile, Verdict

FILE = Path(__file__).parents[1] / "data" / "program_faults.toml"
#: No verdict of these programs depends on time, but for those that set a limit of their own.
PATIENT = {"wall_time_s": 60.0, "cpu_time_s": 60.0}


class FaultCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One program and its right outcome; what is None is not looked at."""

    name: str
    code: str
    verdict: Verdict
    language: str = "python"
    stdin: str = ""
    stdin_bytes: int = 0
    limits: dict[str, Any] = {}
    files: tuple[SourceFile, ...] = ()
    output_files: tuple[str, ...] = ()
    returned: frozenset[str] = frozenset()
    omitted: dict[str, str] = {}
    output: str | None = None
    output_regex: str | None = None
    truncated: bool = False

    def program(self, isolation: Isolation) -> Program:
        """The program, to be run in an isolation."""
        return Program(
            language=self.language,
            code=self.code,
            stdin=self.stdin.encode() or b"a" * self.stdin_bytes,
            files=self.files,
            output_files=self.output_files,
            limits=msgspec.convert({**PATIENT, **self.limits}, Limits),
            isolation=isolation,
            tenant="faults",
        )


def load_faults() -> dict[str, FaultCase]:
    """All of them, by name."""
    cases = msgspec.convert(
        tomllib.loads(FILE.read_text("utf-8"))["program"], list[FaultCase], strict=False
    )
    return {case.name: case for case in cases}


def describe(outcome: Outcome) -> str:
    """An outcome short enough for a failed assertion."""
    return (
        f"{outcome.verdict} {outcome.message} {outcome.stderr[-500:]!r} {outcome.stdout[-200:]!r}"
    )

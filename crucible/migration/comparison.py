"""Whether a program had the same outcome in both queue systems: pure functions of evaluations.

Output, error, exit code, signal, verdict and truncation must be equal, byte for byte. Duration
and memory depend on the machine and the moment: they are reported and never a mismatch.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

from crucible.evaluation.result import bytes_of
from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.models import Evaluation

#: Characters of each value that a report shows.
SHOWN = 200
#: What must be equal, in the order of a report.
FIELDS = ("verdict", "exit_code", "signal", "output", "error", "output_truncated")


class Kind(enum.StrEnum):
    """The result of a comparison."""

    EQUAL = "equal"
    MISMATCH = "mismatch"
    #: Two runs on Celery differ from each other, so the difference says nothing.
    NONDETERMINISTIC = "nondeterministic"
    #: One queue system did not run it, so there is nothing to compare.
    NOT_RUN = "not_run"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One field that is not equal.

    Attributes:
        field: its name in an evaluation.
        legacy: the value from the legacy queue, shortened.
        celery: the value from Celery, shortened.
        at: the first byte that differs, for output and error.
    """

    field: str
    legacy: str
    celery: str
    at: int | None = None


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What one run used; 0 where it is not known."""

    wall_time_ms: int = 0
    cpu_time_ms: int = 0
    memory_peak_kb: int = 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One program in both queue systems.

    Attributes:
        name: of the program, or its evaluation's id.
        kind: the result.
        differences: empty when equal.
        legacy: what the run of the legacy queue used.
        celery: what the run on Celery used.
        detail: one sentence where it could not be compared.
    """

    name: str
    kind: Kind
    differences: list[Difference] = []
    legacy: Resources = Resources()
    celery: Resources = Resources()
    detail: str = ""


def differences(legacy: Evaluation, celery: Evaluation) -> list[Difference]:
    """Every field in which two ended evaluations of one program are not equal."""
    found = []
    for field in FIELDS:
        ours, theirs = _value(legacy, field), _value(celery, field)
        if ours != theirs:
            at = _first(ours, theirs) if isinstance(ours, bytes) else None
            found.append(
                Difference(field=field, legacy=_shown(ours, at), celery=_shown(theirs, at), at=at)
            )
    return found


def judge(
    name: str, legacy: Evaluation, celery: Evaluation, again: Sequence[Evaluation] = ()
) -> Comparison:
    """The comparison of one program.

    Args:
        name: of the program.
        legacy: its evaluation from the legacy queue, ended.
        celery: its evaluation from Celery, ended.
        again: evaluations of further runs on Celery.
    """
    found = differences(legacy, celery)
    kind = Kind.EQUAL if not found else Kind.MISMATCH
    detail = ""
    if found and not (ran(legacy) and ran(celery)):
        kind, detail = Kind.NOT_RUN, _why(legacy) or _why(celery)
    elif found and any(differences(celery, other) for other in again if ran(other)):
        kind = Kind.NONDETERMINISTIC
    return Comparison(
        name=name,
        kind=kind,
        differences=found,
        legacy=resources(legacy),
        celery=resources(celery),
        detail=detail,
    )


def ran(evaluation: Evaluation) -> bool:
    """Whether the program was run, so that its outcome says something about it."""
    return evaluation.verdict not in (
        None,
        Verdict.INTERNAL_ERROR,
        Verdict.CANCELLED,
        Verdict.EXPIRED,
    )


def resources(evaluation: Evaluation) -> Resources:
    """What a run used."""
    usage = evaluation.usage
    if usage is None:
        return Resources()
    return Resources(
        wall_time_ms=usage.wall_time_ms,
        cpu_time_ms=usage.cpu_time_ms,
        memory_peak_kb=usage.memory_peak_kb,
    )


def _why(evaluation: Evaluation) -> str:
    if ran(evaluation):
        return ""
    return f"{evaluation.queue_system}: {evaluation.message or evaluation.status}"


def _value(evaluation: Evaluation, field: str) -> object:
    if field == "output":
        return bytes_of(evaluation.output, evaluation.output_encoding)
    if field == "error":
        return bytes_of(evaluation.error, evaluation.error_encoding)
    return getattr(evaluation, field)


def _first(ours: object, theirs: object) -> int:
    assert isinstance(ours, bytes)
    assert isinstance(theirs, bytes)
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def _shown(value: object, at: int | None) -> str:
    if not isinstance(value, bytes):
        return str(value)
    start = max(0, (at or 0) - SHOWN // 2)
    text = value[start : start + SHOWN].decode(errors="backslashreplace")
    before, after = "…" if start else "", "…" if start + SHOWN < len(value) else ""
    return f"{len(value)} bytes: {before}{text}{after}"

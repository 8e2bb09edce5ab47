"""Whether one program ended the same way on both sides: pure functions of two evaluations.

Output, error, exit code, signal, verdict and truncation must be equal, byte for byte. Duration
and memory depend on the machine and the moment; they are reported beside, and never a mismatch.
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

#: Characters of each side's value that a report shows.
SHOWN = 200
#: What must be equal, in the order of a report.
FIELDS = ("verdict", "exit_code", "signal", "output", "error", "output_truncated")


class Kind(enum.StrEnum):
    """What a comparison came to."""

    EQUAL = "equal"
    MISMATCH = "mismatch"
    #: Two runs on one side differ from each other, so a difference of the sides says nothing.
    NONDETERMINISTIC = "nondeterministic"
    #: The platform did not run it on one side, so there is nothing to compare.
    NOT_RUN = "not_run"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One field that is not equal.

    Attributes:
        field: its name in an evaluation.
        legacy: the legacy side's value, cut for reading.
        celery: the Celery side's.
        at: the first byte that differs, for output and error.
    """

    field: str
    legacy: str
    celery: str
    at: int | None = None


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What one side used; 0 where it did not say."""

    wall_time_ms: int = 0
    cpu_time_ms: int = 0
    memory_peak_kb: int = 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One program on both sides.

    Attributes:
        name: of the program, or its evaluation's id.
        kind: what it came to.
        differences: empty when equal.
        legacy: what the legacy side used.
        celery: what the Celery side used.
        detail: one sentence where something kept it from being compared.
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
    """What to say of one program.

    Args:
        name: of the program.
        legacy: its end on the legacy side.
        celery: its end on the Celery side.
        again: ends of further runs on the Celery side.
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
    """Whether the program was run, so that its end says something about it."""
    return evaluation.verdict not in (
        None,
        Verdict.INTERNAL_ERROR,
        Verdict.CANCELLED,
        Verdict.EXPIRED,
    )


def resources(evaluation: Evaluation) -> Resources:
    """What a side used."""
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

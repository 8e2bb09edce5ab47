"""What a client knows of what it asked for, and what it found in the end. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

OK, CANCELLED = ("completed", "ok"), ("cancelled", "cancelled")
WRONG = ("completed", "wrong_answer")


@dataclass(slots=True)
class Asked:
    """One evaluation that was accepted.

    Attributes:
        kind: plain, graded, in a batch, of an assessment, or cancelled.
        ends: statuses and verdicts that it may end with.
        output: what it prints; None: not compared.
        webhook: whether a receiver was named.
        at: when it was accepted, seconds since the epoch.
    """

    kind: str
    ends: tuple[tuple[str, str | None], ...]
    output: str | None = None
    webhook: bool = False
    at: float = 0.0


@dataclass(slots=True)
class Suite:
    """One assessment: how many runs it has, and how many of its cases pass."""

    runs: int
    passed_cases: int


@dataclass(slots=True)
class Ledger:
    """What one client asked for.

    Attributes:
        tenant: whose key it has.
        asked: evaluations by id.
        suites: assessments by id.
        refused: answers that nobody may get, with what they answered.
    """

    tenant: str
    asked: dict[str, Asked] = field(default_factory=dict)
    suites: dict[str, Suite] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def run_id(assessment_id: str, number: int) -> str:
    """Id of the evaluation that is one of an assessment's runs."""
    return f"as-{assessment_id}-{number}"

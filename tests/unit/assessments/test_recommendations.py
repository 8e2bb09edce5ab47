"""What to do about the outcome of an assessment."""

from __future__ import annotations

from typing import Any

from crucible.assessments.recommendations import MAX_EVIDENCE, Limited, recommend
from crucible.assessments.report import CaseOutcome
from crucible.models import Limits


def limited(number: int, verdict: str = "ok", **more: Any) -> Limited:
    """A case with the usual limits: 10 s, 256 MiB."""
    passed = verdict in ("ok", "accepted") and not more.get("flaky")
    fields = {"id": f"c{number}", "language": "python", "score": float(passed), **more}
    return Limited(CaseOutcome(number=number, passed=passed, verdict=verdict, **fields), Limits())


def test_nothing_to_do() -> None:
    """A suite of ordinary cases that all pass asks for nothing."""
    assert recommend([limited(n, wall_time_ms=20, memory_peak_kb=9000) for n in range(20)]) == []
    assert recommend([]) == []


def test_the_most_urgent_comes_first() -> None:
    """What costs most of the score before what costs less, before what may fail later."""
    cases = [
        *(limited(n, wall_time_ms=20) for n in range(90)),
        *(limited(n, "timeout") for n in range(90, 98)),
        limited(98, "nonzero_exit", message="KeyError: 'x'"),
        limited(99, wall_time_ms=9000),
    ]
    found = recommend(cases)
    assert [(one.rank, one.kind, one.severity, one.cases) for one in found] == [
        (1, "raise_limit", "high", 8),
        (2, "failures", "medium", 1),
        (3, "slow", "medium", 1),
    ]
    assert found[0].lost_score == 0.08
    assert "wall_time_s is 10" in found[0].evidence[0].detail
    assert "KeyError: 'x'" in found[1].evidence[0].detail


def test_evidence_is_bounded_and_counted() -> None:
    """The heaviest cases are named, all are counted."""
    cases = [limited(n, "wrong_answer", weight=float(n)) for n in range(1, 41)]
    (only,) = recommend(cases)
    assert only.cases == 40
    assert [one.number for one in only.evidence] == list(range(40, 40 - MAX_EVIDENCE, -1))


def test_flaky_cases_are_no_failures_of_a_verdict() -> None:
    """They are told apart from cases that always fail."""
    flaky = limited(0, "signalled", flaky=True, repetitions=4, passed_runs=3, score=0.75)
    found = recommend([flaky, limited(1)])
    assert [one.kind for one in found] == ["flaky"]
    assert "3 of 4 repetitions passed" in found[0].evidence[0].detail


def test_what_comes_near_a_limit_is_named() -> None:
    """Even where there is nothing to compare it with."""
    (only,) = recommend([limited(0, memory_peak_kb=250 * 1024)])
    assert (only.kind, only.severity) == ("memory", "medium")
    assert "250 MiB of 256 MiB" in only.evidence[0].detail


def test_what_stands_out_from_the_others_is_named() -> None:
    """Far from any limit, but many times what is usual."""
    cases = [limited(n, wall_time_ms=100) for n in range(9)] + [limited(9, wall_time_ms=2000)]
    (only,) = recommend(cases)
    assert (only.kind, only.severity) == ("slow", "low")
    assert [one.number for one in only.evidence] == [9]

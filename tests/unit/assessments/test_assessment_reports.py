"""Reports: scores, HTML, JUnit XML, comparisons."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from crucible.assessments.comparison import compare
from crucible.assessments.html_report import MAX_ROWS, html_report
from crucible.assessments.junit import junit_report
from crucible.assessments.record import Plan, Run, Runs
from crucible.assessments.report import (
    AssessmentReport,
    CaseOutcome,
    outcome_of,
    percentile,
    summary_of,
)
from crucible.assessments.suite import Case
from crucible.evaluation.request import EvalRequest

PLAN = Plan(name="x", digest=b"", created_ms=0)


def outcome(number: int, verdict: str = "ok", **more: Any) -> CaseOutcome:
    passed = verdict in ("ok", "accepted")
    fields = {"id": str(number), "language": "python", "score": float(passed), **more}
    return CaseOutcome(number=number, passed=passed, verdict=verdict, **fields)


def report(cases: list[CaseOutcome], name: str = "x", plan: Plan = PLAN) -> AssessmentReport:
    return AssessmentReport(
        assessment_id="a",
        name=name,
        status="completed",
        created_at="2026-01-01T00:00:00.000Z",
        started_at=None,
        finished_at=None,
        summary=summary_of(plan, cases),
        recommendations=[],
        cases=cases,
    )


def test_a_case_is_as_its_repetitions() -> None:
    """It passes when all do; else its verdict is that of the first that failed."""
    case = Case(id="c", name="", weight=1.0, repetitions=3, program=EvalRequest(code="1"))
    runs = [Run("ok", 1.0, 10), Run("timeout", 0.0, 99, message="late"), Run("signalled", 0.0, 5)]
    found = outcome_of(7, case, runs, ["e0", "e1", "e2"])
    assert (found.passed, found.verdict, found.flaky) == (False, "timeout", True)
    assert (found.score, found.wall_time_ms, found.passed_runs) == (round(1 / 3, 6), 99, 1)
    assert (found.eval_id, found.message) == ("e1", "late")
    assert found.verdicts == {"ok": 1, "timeout": 1, "signalled": 1}


def test_the_score_is_a_weighted_mean() -> None:
    """And with a needed score of 1 it does not depend on rounding."""
    cases = [outcome(0, weight=3.0), outcome(1, "timeout", score=0.5), outcome(2, weight=0.0)]
    summary = summary_of(PLAN, cases)
    assert (summary.score, summary.passed) == (3.5 / 4, False)
    lenient = msgspec.structs.replace(PLAN, pass_score=0.8)
    assert summary_of(lenient, cases).passed is True
    thirds = [outcome(n, weight=0.1) for n in range(3)]
    assert summary_of(PLAN, thirds).passed is True
    assert summary_of(PLAN, [outcome(0, weight=0.0)]).score == 1.0


def test_html_runs_nothing_of_a_suite() -> None:
    """Whatever a case is called or prints is text; nothing is loaded from elsewhere."""
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y>"
    page = html_report(report([outcome(0, "timeout", name=evil, message=evil)], name=evil))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href|url\()\s*=?", page.replace("src=x", ""))
    assert page.count("<svg") == page.count("</svg>") == 3


def test_reports_of_ten_thousand_cases_are_small() -> None:
    """The JSON has all, the page the failed ones before others."""
    cases = [
        outcome(n, "timeout" if n % 10 == 0 else "ok", name=f"case {n}", message="m" * 160)
        for n in range(10_000)
    ]
    made = report(cases)
    assert len(msgspec.json.encode(made)) < 5_000_000
    page = html_report(made)
    assert len(page) < 1_000_000
    assert page.count("<tr>") == MAX_ROWS + 1
    assert "1000 of 10000" in page
    assert len(junit_report(made)) < 5_000_000


def test_junit_tells_failures_from_faults_of_the_platform() -> None:
    """Failures are the programs', errors are not."""
    cases = [outcome(0), outcome(1, "wrong_answer"), outcome(2, "internal_error")]
    root = ET.fromstring(junit_report(report(cases)))
    suite = root.find("testsuite")
    assert suite is not None
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["3", "1", "1"]
    kinds = [[one.tag for one in case] for case in suite.iter("testcase")]
    assert kinds == [[], ["failure"], ["error"]]


@given(st.text(), st.text())
def test_junit_is_xml_whatever_a_program_says(name: str, message: str) -> None:
    """Characters that XML has no way to write are replaced."""
    text = junit_report(report([outcome(0, "timeout", name=name, message=message)], name=name))
    ET.fromstring(text.encode("utf-8", "replace"))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_every_run_has_one_place(repetitions: list[int]) -> None:
    """Runs are numbered case by case."""
    runs = Runs(repetitions)
    places = [runs.place(number) for number in range(runs.total)]
    assert places == [(case, n) for case, times in enumerate(repetitions) for n in range(times)]
    assert [runs.first(case) for case in range(len(repetitions))] == [
        places.index((case, 0)) for case in range(len(repetitions))
    ]


def test_percentiles_are_of_the_nearest_rank() -> None:
    """Of a hundred the ninety-fifth, of one that one, of nothing 0."""
    assert [percentile(range(1, 101), p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7], 50) == 7
    assert percentile([], 50) == 0


def test_a_comparison_says_what_changed() -> None:
    """By verdict, by score, by time; small differences of time are none."""
    before = [
        outcome(0),
        outcome(1, "timeout"),
        outcome(2, "partial", score=0.5),
        outcome(3, wall_time_ms=10),
        outcome(4, wall_time_ms=300),
        outcome(5, wall_time_ms=10),
    ]
    after = [
        outcome(0, "timeout"),
        outcome(1),
        outcome(2, "partial", score=0.7),
        outcome(3, wall_time_ms=300),
        outcome(4, wall_time_ms=10),
        outcome(5, wall_time_ms=30),
        outcome(6),
    ]
    found = compare(report(before), report(after))
    kinds = ("regressions", "improvements", "slower", "faster", "added", "removed")
    assert {kind: [one.case for one in getattr(found, kind)] for kind in kinds} == {
        "regressions": ["0"],
        "improvements": ["1", "2"],
        "slower": ["3"],
        "faster": ["4"],
        "added": ["6"],
        "removed": [],
    }
    assert found.unchanged == 1

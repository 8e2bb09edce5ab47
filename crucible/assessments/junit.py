"""A report as JUnit XML, which continuous integration systems read. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from crucible.assessments.report import AssessmentReport, CaseOutcome

#: Characters that XML 1.0 has no way to write.
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Verdicts that say nothing about the program.
_ERRORS = frozenset({"internal_error", "cancelled", "expired"})


def junit_report(report: AssessmentReport) -> str:
    """The document: one test suite, a test case for each case."""
    summary = report.summary
    errors = sum(not case.passed and case.verdict in _ERRORS for case in report.cases)
    counts = (
        f'tests="{summary.total}" failures="{summary.failed_cases - errors}" errors="{errors}" '
        f'skipped="0" time="{summary.wall_time_ms.total / 1000:.3f}"'
    )
    name = _attribute(report.name)
    when = f" timestamp={_attribute(report.started_at)}" if report.started_at else ""
    return "".join(
        (
            '<?xml version="1.0" encoding="UTF-8"?>\n',
            f"<testsuites name={name} {counts}>\n",
            f"<testsuite name={name} {counts}{when}>\n",
            f'<properties><property name="assessment_id" value={_attribute(report.assessment_id)}'
            f'/><property name="score" value="{summary.score}"/></properties>\n',
            *map(_case, report.cases),
            "</testsuite>\n</testsuites>\n",
        )
    )


def _case(case: CaseOutcome) -> str:
    start = (
        f"<testcase name={_attribute(case.name or case.id)} classname={_attribute(case.language)} "
        f'time="{case.wall_time_ms / 1000:.3f}"'
    )
    if case.passed:
        return f"{start}/>\n"
    kind = "error" if case.verdict in _ERRORS else "failure"
    text = case.message or f"ended with {case.verdict}"
    if case.flaky:
        text = f"flaky: {case.passed_runs} of {case.repetitions} repetitions passed; {text}"
    return (
        f"{start}><{kind} type={_attribute(case.verdict)} message={_attribute(text)}>"
        f"{escape(_FORBIDDEN.sub('?', f'evaluation {case.eval_id}'))}</{kind}></testcase>\n"
    )


def _attribute(text: str) -> str:
    return quoteattr(_FORBIDDEN.sub("?", text))

"""The report of an assessment as a person reads it: what failed, and what it comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.assessments.comparison import CaseChange, Comparison
    from crucible.assessments.report import AssessmentReport, CaseOutcome, Summary

#: Rows at most: cases that failed, and changes of one kind.
MAX_ROWS = 60
#: Width where the output is no terminal, so that nothing is folded there.
_WIDE = 200


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


def print_report(report: AssessmentReport) -> None:
    """Print the cases that failed, the counts, and what to do."""
    console = _console()
    failed = [case for case in report.cases if not case.passed]
    if failed:
        console.print(_failures(failed[:MAX_ROWS]))
        if len(failed) > MAX_ROWS:
            console.print(f"{len(failed) - MAX_ROWS} more failed; the report has all", style="dim")
    console.print(_counts(report.summary))
    for one in report.recommendations:
        console.print(Text(f"{one.rank}. {one.title} ({one.severity}): {one.action}"))
    summary = report.summary
    outcome = "passed" if summary.passed else "failed"
    console.print(
        Text(
            f"{outcome}: {summary.passed_cases} of {summary.total} cases passed, "
            f"score {summary.score:.1%} ({summary.pass_score:.0%} needed)",
            style="green" if summary.passed else "red",
        )
    )


def _failures(cases: Sequence[CaseOutcome]) -> Table:
    table = Table("Failed case", "Language", "Verdict", box=None, pad_edge=False)
    table.add_column("Score", justify="right")
    table.add_column("Time", justify="right")
    table.add_column("Why")
    for case in cases:
        why = f"flaky, {case.passed_runs} of {case.repetitions} passed. " if case.flaky else ""
        table.add_row(
            Text(case.name or case.id),
            case.language,
            Text(case.verdict, style="yellow" if case.flaky else "red"),
            f"{case.score:.0%}",
            f"{case.wall_time_ms} ms",
            Text(why + case.message),
        )
    return table


def _counts(summary: Summary) -> Table:
    table = Table("Language", box=None, pad_edge=False)
    for name in ("Cases", "Passed", "Failed"):
        table.add_column(name, justify="right")
    for one in summary.languages:
        table.add_row(one.language, str(one.total), str(one.passed), str(one.total - one.passed))
    table.add_row("all", str(summary.total), str(summary.passed_cases), str(summary.failed_cases))
    return table


def print_changes(changes: Comparison) -> None:
    """Print what changed since an earlier assessment."""
    console = _console()
    console.print(Text(f"Since {changes.baseline}: score {changes.score_change:+.1%}"))
    kinds = ("regressions", "improvements", "slower", "faster", "added", "removed")
    for kind in kinds:
        found: list[CaseChange] = getattr(changes, kind)
        for one in found[:MAX_ROWS]:
            console.print(Text(f"  {kind}: {one.name or one.case}: {_way(one)}"))
        if len(found) > MAX_ROWS:
            console.print(f"  {kind}: {len(found) - MAX_ROWS} more", style="dim")


def _way(one: CaseChange) -> str:
    before, after = one.before or "none", one.after or "none"
    if before == after and one.score_before != one.score_after:
        return f"score {one.score_before:.0%} → {one.score_after:.0%}"
    if before == after:
        return f"{one.wall_time_ms_before} ms → {one.wall_time_ms_after} ms"
    return f"{before} → {after}"

"""A report as one HTML page that stands alone: no script, nothing loaded, text escaped. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from crucible.assessments.charts import bars

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crucible.assessments.recommendations import Recommendation
    from crucible.assessments.report import AssessmentReport, CaseOutcome, Summary

#: Cases in the table, failed ones before others: what a person can read and a browser can lay out.
#: The JSON has them all.
MAX_ROWS = 1000

_STYLE = """
:root{color-scheme:light dark;--ok:#2e7d4f;--bad:#c0392b;--flaky:#b9770e;--line:#8884}
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.outcome{font-weight:600}.passed{color:var(--ok)}.failed{color:var(--bad)}.flaky{color:var(--flaky)}
dl{display:flex;flex-wrap:wrap;gap:.5rem 2rem;margin:1rem 0}dt{font-size:.8rem;opacity:.7}
dd{margin:0;font-size:1.2rem;font-variant-numeric:tabular-nums}
figure{margin:1rem 0}figcaption{font-weight:600;margin-bottom:.4rem}svg{max-width:100%;height:auto}
svg text{font:12px system-ui,sans-serif;fill:currentColor}
rect{fill:#4a78b5}rect.passed{fill:var(--ok)}rect.failed{fill:var(--bad)}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
ol>li{margin:.6rem 0}li li{font-size:.9rem}.note{opacity:.75}
"""


def html_report(report: AssessmentReport) -> str:
    """The page."""
    title = escape(report.name)
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{title}</title><style>{_STYLE}</style></head><body>",
            _head(report),
            _charts(report.summary),
            _recommendations(report.recommendations),
            *_table(report.cases),
            "</body></html>\n",
        )
    )


def _head(report: AssessmentReport) -> str:
    summary = report.summary
    outcome = "passed" if summary.passed else "failed"
    facts = (
        ("Score", f"{summary.score:.1%}"),
        ("Needed", f"{summary.pass_score:.0%}"),
        ("Cases passed", f"{summary.passed_cases} of {summary.total}"),
        ("Flaky", str(summary.flaky_cases)),
        ("Runs", str(summary.runs)),
        ("Median time", f"{summary.wall_time_ms.p50} ms"),
        ("95th percentile", f"{summary.wall_time_ms.p95} ms"),
        ("Most memory", f"{summary.memory_peak_kb / 1024:.1f} MiB"),
    )
    shown = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    when = f"{report.started_at or ''} to {report.finished_at or ''}"
    return (
        f'<header><h1>{escape(report.name)}</h1><p><span class="outcome {outcome}">{outcome}</span>'
        f' <span class="note">{escape(report.assessment_id)}, {escape(when)}</span></p></header>'
        f"<dl>{shown}</dl>"
    )


def _charts(summary: Summary) -> str:
    verdicts = [
        (verdict, count, "passed" if verdict in ("ok", "accepted") else "failed")
        for verdict, count in summary.verdicts.items()
    ]
    languages = [
        (f"{one.language} {kind}", count, kind)
        for one in summary.languages
        for kind, count in (("passed", one.passed), ("failed", one.total - one.passed))
    ]
    times = [
        ("more" if bound is None else f"up to {bound} ms", count, "")
        for bound, count in summary.wall_time_ms.histogram
    ]
    return (
        f"<h2>Overview</h2>{bars('Cases by verdict', verdicts)}"
        f"{bars('Cases by language', languages)}{bars('Cases by wall time', times)}"
    )


def _recommendations(found: Sequence[Recommendation]) -> str:
    if not found:
        return '<h2>Recommendations</h2><p class="note">None.</p>'
    items = "".join(_recommendation(one) for one in found)
    return f"<h2>Recommendations</h2><ol>{items}</ol>"


def _recommendation(one: Recommendation) -> str:
    evidence = "".join(
        f"<li>{escape(seen.name or seen.case)}: {escape(seen.detail)}</li>" for seen in one.evidence
    )
    more = one.cases - len(one.evidence)
    rest = f'<li class="note">and {more} more</li>' if more > 0 else ""
    return (
        f"<li><strong>{escape(one.title)}</strong> ({escape(one.severity)}): {escape(one.action)}"
        f"<ul>{evidence}{rest}</ul></li>"
    )


def _table(cases: Sequence[CaseOutcome]) -> Iterator[str]:
    # sorted is stable: within both kinds the order of the suite stays.
    shown = sorted(cases, key=lambda case: case.passed)[:MAX_ROWS]
    yield "<h2>Cases</h2>"
    if len(shown) < len(cases):
        yield (
            f'<p class="note">{len(shown)} of {len(cases)}, failed ones first; '
            "the JSON report has all.</p>"
        )
    yield (
        '<table><thead><tr><th>Case</th><th>Language</th><th>Verdict</th><th class="number">Score'
        '</th><th class="number">Time</th><th class="number">Memory</th><th>Remarks</th></tr>'
        "</thead><tbody>"
    )
    yield from map(_row, shown)
    yield "</tbody></table>"


def _row(case: CaseOutcome) -> str:
    kind = "flaky" if case.flaky else "passed" if case.passed else "failed"
    remarks = case.message
    if case.flaky:
        remarks = f"{case.passed_runs} of {case.repetitions} passed. {remarks}"
    elif case.total_tests:
        remarks = f"{case.passed_tests} of {case.total_tests} tests. {remarks}"
    return (
        f"<tr><td>{escape(case.name or case.id)}</td><td>{escape(case.language)}</td>"
        f'<td class="{kind}">{escape(case.verdict)}</td><td class="number">{case.score:.0%}</td>'
        f'<td class="number">{case.wall_time_ms} ms</td>'
        f'<td class="number">{case.memory_peak_kb / 1024:.1f} MiB</td>'
        f"<td>{escape(remarks)}</td></tr>"
    )

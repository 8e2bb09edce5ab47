"""The report of a run: written as JSON, read back for comparison, shown as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from rich.markup import escape
from rich.table import Table

from benchmarks.figures import Figure, Figures, changes
from benchmarks.histogram import PERCENTILES, Histogram, name_of
from benchmarks.targets import TARGETS, Outcome, judge

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.figures import Summary
    from benchmarks.scenario import Bench
    from benchmarks.targets import Target, Verdict

VERSION = 1
_COLOURS = {Outcome.PASS: "green", Outcome.FAIL: "bold red", Outcome.UNMEASURED: "dim"}


class Latency(msgspec.Struct, frozen=True):
    """Latencies of one subject, all repeats together.

    Attributes:
        scenario: the scenario's name.
        subject: the subject's name.
        what: the load.
        percentiles_ms: percentiles by name.
        buckets: the histogram itself.
    """

    scenario: str
    subject: str
    what: str
    percentiles_ms: dict[str, float]
    buckets: dict[str, int]


class Failure(msgspec.Struct, frozen=True):
    """A measurement that failed.

    Attributes:
        scenario: the scenario's name.
        subject: the subject's name; empty if the scenario itself could not be opened.
        repeat: number of the repeat, from 0.
        reason: the error.
        made_up: a second attempt, after the other repeats of the scenario, succeeded.
    """

    scenario: str
    subject: str
    repeat: int
    reason: str
    made_up: bool = False


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a run.

    Attributes:
        version: version of this format.
        started_at: start, UTC.
        seconds: duration.
        command: the plan.
        machine: see ``machine.describe``.
        figures: every value of every repeat.
        latencies: histograms.
        notes: remarks.
        asked: the subjects to be measured, by scenario.
        failures: measurements that failed, or succeeded only at the second attempt.
        whole: False if the run was stopped before everything was measured.
        expected_s: seconds that each scenario was expected to take.
        took_s: seconds that each has taken, servers included.
    """

    version: int = VERSION
    started_at: str
    seconds: float
    command: dict[str, Any]
    machine: dict[str, Any]
    figures: list[Figure]
    latencies: list[Latency]
    notes: list[str]
    asked: dict[str, list[str]] = {}
    failures: list[Failure] = []
    whole: bool = True
    expected_s: dict[str, float] = {}
    took_s: dict[str, float] = {}

    @property
    def measured(self) -> Figures:
        """The figures as an index."""
        return Figures(self.figures)

    def verdicts(self) -> list[Verdict]:
        """The verdict on each target whose scenario was run."""
        run = {figure.scenario for figure in self.figures} | self.asked.keys()
        targets = [target for target in TARGETS if target.scenario in run]
        return judge(self.measured, targets, self._pooled)

    @property
    def _pooled(self) -> dict[tuple[str, str, str], float]:
        """Percentiles of all repeats together, by scenario, subject and metric."""
        return {
            (latency.scenario, latency.subject, f"{latency.what}_{name}_ms"): value
            for latency in self.latencies
            for name, value in latency.percentiles_ms.items()
        }

    def unjudged(self) -> list[Target]:
        """Targets that were to be measured but could not be judged."""
        return [
            verdict.target
            for verdict in self.verdicts()
            if verdict.outcome is Outcome.UNMEASURED and self._was_asked(verdict.target)
        ]

    def _was_asked(self, target: Target) -> bool:
        return set(target.subjects) <= set(self.asked.get(target.scenario, ()))


def latencies_of(bench: Bench) -> list[Latency]:
    """The histograms of a run in the report's format."""
    return [
        Latency(*key, histogram.percentiles_ms(PERCENTILES), histogram.dump())
        for key, histogram in bench.kept.latencies.items()
    ]


def write(report: Report, path: Path) -> None:
    """Store it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def read(path: Path) -> Report:
    """The inverse of ``write``.

    Raises:
        OSError: it cannot be read.
        msgspec.MsgspecError: it is not a report of this format.
    """
    return msgspec.json.decode(path.read_bytes(), type=Report)


def figures_table(report: Report, scenario: str) -> Table:
    """All figures of one scenario."""
    table = Table("subject", "figure", title=scenario, title_justify="left", box=None)
    for heading in ("median", "low", "high", "spread", "n"):
        table.add_column(heading, justify="right")
    last = ""
    for figure in sorted(
        (f for f in report.figures if f.scenario == scenario), key=lambda f: f.subject
    ):
        summary = figure.summary
        subject, last = ("" if figure.subject == last else figure.subject), figure.subject
        table.add_row(subject, figure.metric, *_shown(summary), str(summary.repeats))
    return table


def _shown(summary: Summary) -> tuple[str, str, str, str]:
    return (
        number(summary.median),
        number(summary.low),
        number(summary.high),
        f"±{summary.spread:.0%}",
    )


def latency_table(report: Report) -> Table:
    """Percentiles of every histogram."""
    table = Table("scenario", "subject", "load", title="latencies, ms, all repeats", box=None)
    table.add_column("n", justify="right")
    for percentile in PERCENTILES:
        table.add_column(name_of(percentile), justify="right")
    for latency in report.latencies:
        values = [number(latency.percentiles_ms[name_of(p)]) for p in PERCENTILES]
        count = str(sum(latency.buckets.values()))
        table.add_row(latency.scenario, latency.subject, latency.what, count, *values)
    return table


def targets_table(report: Report) -> Table:
    """Every target whose scenario was run."""
    table = Table("target", "bound", "users ask", title="targets", box=None)
    for heading in ("figure", "ratio", "spread", "verdict"):
        table.add_column(heading, justify="right")
    for verdict in report.verdicts():
        target, outcome = verdict.target, verdict.outcome
        measured, figure = verdict.measured, verdict.figure
        table.add_row(
            target.what,
            target.bound,
            target.users_figure,
            number(figure.median) if figure else "",
            f"{measured.median:.2f}" if measured and target.against else "",
            f"±{measured.spread:.0%}" if measured else "",
            f"[{_COLOURS[outcome]}]{outcome}[/]",
        )
    return table


def failures_table(report: Report) -> Table:
    """Every measurement that failed at the first attempt."""
    table = Table("scenario", "subject", title="not measured", title_justify="left", box=None)
    table.add_column("repeat", justify="right")
    table.add_column("outcome")
    table.add_column("reason")
    for failure in report.failures:
        outcome = "second try" if failure.made_up else "[bold red]missing[/]"
        reason = escape(failure.reason.strip().splitlines()[-1] if failure.reason.strip() else "")
        subject = failure.subject or "(the scenario)"
        table.add_row(failure.scenario, subject, str(failure.repeat + 1), outcome, reason)
    return table


def times_table(report: Report) -> Table:
    """How long each scenario took, beside what was expected."""
    table = Table("scenario", title="time, s", title_justify="left", box=None)
    for heading in ("expected", "took"):
        table.add_column(heading, justify="right")
    for name, took in report.took_s.items():
        table.add_row(name, f"{report.expected_s.get(name, 0):.0f}", f"{took:.0f}")
    table.add_row("all", f"{sum(report.expected_s.values()):.0f}", f"{report.seconds:.0f}")
    return table


def changes_table(report: Report, before: Report) -> Table:
    """Figures that differ from an earlier run by more than noise, and how many do not."""
    table = Table("scenario", "subject", "figure", title="compared with the earlier run", box=None)
    for heading in ("before", "now", "change", "noise", "verdict"):
        table.add_column(heading, justify="right")
    found = changes(report.measured, before.measured)
    for change in found:
        if change.verdict == "same":
            continue
        colour = "green" if change.verdict == "better" else "red"
        table.add_row(
            *change.figure.key,
            number(change.before),
            number(change.after),
            f"{change.share:+.0%}",
            f"±{change.noise:.0%}",
            f"[{colour}]{change.verdict}[/]",
        )
    same = sum(change.verdict == "same" for change in found)
    table.caption = f"{same} of {len(found)} figures are the same within noise"
    return table


def number(value: float) -> str:
    """A number with three significant digits; thousands in full."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def load_histogram(latency: Latency) -> Histogram:
    """The histogram of a report's latencies."""
    return Histogram.load(latency.buckets)

"""The targets, and the verdict of a run on each.

Ratios are computed repeat by repeat from figures measured next to each other in one run, and judged
by their median. Percentiles with few values per repeat, such as the P99 of programs in fresh
containers, are computed over all repeats together. Absolute figures hold for the run's machine
only.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from benchmarks.figures import Summary, ratios, summary_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.figures import Figures


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One target.

    Attributes:
        what: its description.
        scenario: the scenario that measures it.
        subject: the subject of its figure.
        metric: the metric of its figure.
        against: the subject it is divided by; empty for the figure itself.
        against_metric: the metric divided by; empty for the same one.
        at_least: lower bound.
        at_most: upper bound.
        pooled: a percentile of all repeats together, since one repeat has too few values; the
            spread is still that of the repeats.
        users_figure: what the users' documents ask for; shown, not judged.
    """

    what: str
    scenario: str
    subject: str
    metric: str
    against: str = ""
    against_metric: str = ""
    at_least: float | None = None
    at_most: float | None = None
    pooled: bool = False
    users_figure: str = ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects it needs figures of."""
        return (self.subject, self.against) if self.against else (self.subject,)

    @property
    def bound(self) -> str:
        """The bound as text, such as ``>= 0.75 x bare aiohttp``."""
        number = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return f"{number} x {self.against}" if self.against else number


class Outcome(StrEnum):
    """Result of judging a target."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNMEASURED = "-"


class Verdict(msgspec.Struct, frozen=True):
    """A target and what was measured for it.

    Attributes:
        target: the target.
        outcome: pass, fail, or not measured in this run.
        measured: the ratio, or the figure itself if there is no divisor.
        figure: the figure.
    """

    target: Target
    outcome: Outcome
    measured: Summary | None = None
    figure: Summary | None = None


def judge(
    figures: Figures,
    targets: Sequence[Target],
    pooled: Mapping[tuple[str, str, str], float] = MappingProxyType({}),
) -> list[Verdict]:
    """The verdict on every target; ``pooled`` has the percentiles of all repeats together."""
    return [_judge(figures, target, pooled) for target in targets]


def _judge(
    figures: Figures, target: Target, pooled: Mapping[tuple[str, str, str], float]
) -> Verdict:
    figure = figures.find(target.scenario, target.subject, target.metric)
    if figure is None:
        return Verdict(target, Outcome.UNMEASURED)
    values = figure.values
    if target.against:
        other = figures.find(
            target.scenario, target.against, target.against_metric or target.metric
        )
        values = ratios(figure, other) if other is not None else []
    if not values:
        return Verdict(target, Outcome.UNMEASURED, figure=figure.summary)
    measured, shown = summary_of(values), figure.summary
    if target.pooled:
        together = pooled.get(figure.key, measured.median)
        measured = shown = msgspec.structs.replace(measured, median=together)
    passed = (target.at_least is None or measured.median >= target.at_least) and (
        target.at_most is None or measured.median <= target.at_most
    )
    return Verdict(target, Outcome.PASS if passed else Outcome.FAIL, measured, shown)


TARGETS = (
    Target(
        what="HTTP submissions, one api process",
        scenario="submit",
        subject="crucible",
        metric="submissions_per_s",
        against="bare aiohttp",
        at_least=0.75,
        users_figure="1000/s",
    ),
    Target(
        what="HTTP submissions, ratio to the usual stack",
        scenario="submit",
        subject="crucible",
        metric="submissions_per_s",
        against="fastapi+celery",
        at_least=15,
    ),
    Target(
        what="submissions with history, metrics, events and 1 % traces, processor time",
        scenario="features",
        subject="history+metrics+events+1 % traces",
        metric="at_1500_per_s_cpu_us",
        against="off",
        at_most=1.1,
    ),
    Target(
        what="HTTP submission P99 at half load, ms",
        scenario="submit",
        subject="crucible",
        metric="at_half_load_p99_ms",
        at_most=5,
        users_figure="< 200 ms",
    ),
    Target(
        what="HTTP submission errors",
        scenario="submit",
        subject="crucible",
        metric="error_share",
        at_most=0,
        users_figure="< 0.1 %",
    ),
    Target(
        what="api memory, MiB",
        scenario="submit",
        subject="crucible",
        metric="resident_mb",
        at_most=80,
        users_figure="256-512 MB",
    ),
    Target(
        what="batch submission over HTTP, per second",
        scenario="batch",
        subject="crucible http batch",
        metric="messages_per_s",
        at_least=60_000,
    ),
    Target(
        what="batch sending",
        scenario="batch",
        subject="crucible send_batch",
        metric="messages_per_s",
        against="celery send_task",
        at_least=40,
    ),
    Target(
        what="no-op tasks, two processes each",
        scenario="worker",
        subject="crucible",
        metric="tasks_per_s",
        against="celery prefork",
        at_least=20,
        users_figure="150/min",
    ),
    Target(
        what="no-op tasks with events",
        scenario="worker",
        subject="crucible events",
        metric="tasks_per_s",
        against="celery prefork events",
        at_least=10,
    ),
    Target(
        what="worker memory, MiB",
        scenario="worker",
        subject="crucible",
        metric="resident_mb",
        at_most=100,
        users_figure="256-512 MB",
    ),
    Target(
        what="worker memory growth over a million tasks",
        scenario="endurance",
        subject="crucible",
        metric="resident_growth_share",
        at_most=0.02,
        users_figure="flat",
    ),
    Target(
        what="submit to result, fresh container, half load, P50 ms",
        scenario="sandbox",
        subject="crucible warm",
        metric="at_half_load_p50_ms",
        at_most=10,
        users_figure="< 100 ms",
    ),
    Target(
        what="submit to result, fresh container, half load, P99 ms",
        scenario="sandbox",
        subject="crucible warm",
        metric="at_half_load_p99_ms",
        at_most=30,
        pooled=True,
        users_figure="P99 1.8 s",
    ),
    Target(
        what="fresh containers",
        scenario="sandbox",
        subject="crucible warm",
        metric="programs_per_s",
        against="bare restart",
        at_least=0.9,
        users_figure="150/min",
    ),
    Target(
        what="nested: programs through HTTP, queue and lane",
        scenario="sandbox",
        subject="crucible nested",
        metric="programs_per_s",
        at_least=400,
        users_figure="1000 tasks/s",
    ),
    Target(
        what="nested against a fresh container",
        scenario="sandbox",
        subject="crucible nested",
        metric="programs_per_s",
        against="crucible warm",
        at_least=20,
    ),
    Target(
        what="20 tests in one request, processor time",
        scenario="grading",
        subject="one request",
        metric="cpu_ms_per_20_tests",
        against="twenty requests",
        at_most=0.1,
    ),
    Target(
        what="20 tests in one request, nested, processor time",
        scenario="grading",
        subject="one nested request",
        metric="cpu_ms_per_20_tests",
        against="twenty requests",
        at_most=0.1,
    ),
    Target(
        what="submit to result, nested, half load, P50 ms",
        scenario="sandbox",
        subject="crucible nested",
        metric="at_half_load_p50_ms",
        at_most=5,
    ),
    Target(
        what="submit to result, nested, half load, P99 ms",
        scenario="sandbox",
        subject="crucible nested",
        metric="at_half_load_p99_ms",
        at_most=15,
        pooled=True,
    ),
    Target(
        what="rewards through the facade, ratio to the API",
        scenario="rewards",
        subject="facade",
        metric="rewards_per_s",
        against="api",
        at_least=0.8,
    ),
    Target(
        what="rewards wrong or lost, facade",
        scenario="rewards",
        subject="facade",
        metric="wrong_or_lost_count",
        at_most=0,
    ),
    Target(
        what="rewards wrong or lost, API",
        scenario="rewards",
        subject="api",
        metric="wrong_or_lost_count",
        at_most=0,
        users_figure="< 0.1 %",
    ),
    Target(
        what="start beside a large assessment, P99 ms",
        scenario="assessments",
        subject="assessment",
        metric="start_p99_ms",
        at_most=20,
    ),
    Target(
        what="event streams with every event, of 2 000",
        scenario="sse",
        subject="crucible",
        metric="complete_share",
        at_least=1,
    ),
    Target(
        what="api memory with 2 000 event streams, MiB",
        scenario="sse",
        subject="crucible",
        metric="resident_mb",
        at_most=150,
    ),
    Target(
        what="throughput at 1 M queued, ratio to 1 k",
        scenario="depth",
        subject="1M",
        metric="tasks_per_s",
        against="1k",
        at_least=0.95,
    ),
    Target(
        what="submissions at 1 M queued, ratio to 1 k",
        scenario="depth",
        subject="1M",
        metric="submissions_per_s",
        against="1k",
        at_least=0.95,
    ),
    Target(
        what="overhead of a queued message, bytes",
        scenario="depth",
        subject="1M",
        metric="overhead_bytes",
        at_most=400,
    ),
    Target(
        what="history into SQLite, evaluations a second",
        scenario="history",
        subject="sqlite",
        metric="evaluations_per_s",
        at_least=5000,
    ),
    Target(
        what="history into PostgreSQL, evaluations a second",
        scenario="history",
        subject="postgresql",
        metric="evaluations_per_s",
        at_least=10_000,
    ),
    Target(
        what="lag at 2 000 evaluations/s, SQLite, s",
        scenario="history",
        subject="sqlite",
        metric="lag_at_2000_per_s_max_s",
        at_most=2,
    ),
    Target(
        what="lag at 2 000 evaluations/s, PostgreSQL, s",
        scenario="history",
        subject="postgresql",
        metric="lag_at_2000_per_s_max_s",
        at_most=2,
    ),
    Target(
        what="historian memory, MiB",
        scenario="history",
        subject="postgresql",
        metric="resident_mb",
        at_most=80,
    ),
)

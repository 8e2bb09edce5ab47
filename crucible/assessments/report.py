"""What came of an assessment: its summary and its cases, made of how the runs ended. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from crucible.assessments.recommendations import (
    Recommendation,  # noqa: TC001 - msgspec reads the annotations
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.assessments.record import Plan, Run
    from crucible.assessments.suite import Case

#: Bounds of the histogram of wall times, milliseconds; the last bucket has no end.
BUCKETS_MS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
#: What a run counts as whose evaluation left nothing.
MISSING = "internal_error"


class CaseOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one case.

    Attributes:
        number: its position, from 0.
        id: its id.
        name: for people.
        language: of its program.
        weight: its share of the score.
        passed: every repetition passed.
        verdict: that of the repetitions; of the first that failed where they differ.
        score: 0 to 1, the mean of its repetitions.
        repetitions: how often it was run.
        passed_runs: repetitions that passed.
        verdicts: how many repetitions had which verdict, where they differ.
        flaky: some repetitions passed and some did not.
        wall_time_ms: the longest.
        cpu_time_ms: the most processor time.
        memory_peak_kb: the most memory.
        exit_code: of the repetition that ``verdict`` is of.
        passed_tests: of a program with tests, the fewest.
        total_tests: the same.
        message: why it failed.
        eval_id: the evaluation that ``verdict`` is of.
    """

    number: int
    id: str
    name: str = ""
    language: str
    weight: float = 1.0
    passed: bool
    verdict: str
    score: float
    repetitions: int = 1
    passed_runs: int = 0
    verdicts: dict[str, int] = {}
    flaky: bool = False
    wall_time_ms: int = 0
    cpu_time_ms: int = 0
    memory_peak_kb: int = 0
    exit_code: int | None = None
    passed_tests: int = 0
    total_tests: int = 0
    message: str = ""
    eval_id: str = ""


class LanguageCount(msgspec.Struct, kw_only=True):
    """Cases of one language.

    Attributes:
        language: its name.
        total: its cases.
        passed: those that passed.
    """

    language: str
    total: int = 0
    passed: int = 0


class WallTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds that the cases took, each by its longest repetition.

    Attributes:
        p50: half of them took no longer.
        p95: 95 of 100.
        p99: 99 of 100.
        max: the longest.
        total: the sum.
        histogram: pairs of an upper bound (null for the rest) and how many are below it.
    """

    p50: int
    p95: int
    p99: int
    max: int
    total: int
    histogram: list[tuple[int | None, int]]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """An assessment in a few numbers.

    Attributes:
        passed: the score reaches ``pass_score``.
        score: 0 to 1, the weighted mean of the cases.
        pass_score: the score from which on it passes.
        total: cases.
        passed_cases: those that passed.
        failed_cases: those that did not.
        flaky_cases: those whose repetitions differ.
        runs: evaluations.
        verdicts: cases by verdict.
        languages: cases by language.
        wall_time_ms: how long the cases took.
        memory_peak_kb: the most that one used.
    """

    passed: bool
    score: float
    pass_score: float
    total: int
    passed_cases: int
    failed_cases: int
    flaky_cases: int
    runs: int
    verdicts: dict[str, int]
    languages: list[LanguageCount]
    wall_time_ms: WallTimes
    memory_peak_kb: int


class AssessmentReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report of an assessment.

    Attributes:
        assessment_id: of which.
        name: for people.
        status: where it stands.
        created_at: when it was made.
        started_at: when it was started.
        finished_at: when its last run had ended.
        summary: the numbers.
        recommendations: what to do, the most urgent first.
        cases: what came of each, in order.
    """

    assessment_id: str
    name: str
    status: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    summary: Summary
    recommendations: list[Recommendation]
    cases: list[CaseOutcome]


def outcome_of(
    number: int, case: Case, runs: Sequence[Run], eval_ids: Sequence[str]
) -> CaseOutcome:
    """What came of one case.

    Args:
        number: its position.
        case: the case.
        runs: how its repetitions ended.
        eval_ids: their evaluations.
    """
    failed = [at for at, run in enumerate(runs) if not run.passed]
    decisive = failed[0] if failed else 0
    run = runs[decisive]
    verdicts = Counter(one.verdict for one in runs)
    return CaseOutcome(
        number=number,
        id=case.id,
        name=case.name,
        language=case.program.language,
        weight=case.weight,
        passed=not failed,
        verdict=run.verdict,
        score=round(sum(one.score for one in runs) / len(runs), 6),
        repetitions=len(runs),
        passed_runs=len(runs) - len(failed),
        verdicts=dict(verdicts) if len(verdicts) > 1 else {},
        flaky=0 < len(failed) < len(runs),
        wall_time_ms=max(one.wall_ms for one in runs),
        cpu_time_ms=max(one.cpu_ms for one in runs),
        memory_peak_kb=max(one.memory_kb for one in runs),
        exit_code=run.exit_code,
        passed_tests=min(one.passed_tests for one in runs),
        total_tests=run.total_tests,
        message=run.message,
        eval_id=eval_ids[decisive],
    )


def summary_of(plan: Plan, cases: Sequence[CaseOutcome]) -> Summary:
    """The numbers of an assessment."""
    weight = sum(case.weight for case in cases)
    # Where no case has any weight, all have the same.
    weighted = [(case.weight if weight else 1.0, case.score) for case in cases]
    total = sum(share for share, _ in weighted)
    score = sum(share * value for share, value in weighted) / total if total else 0.0
    passed = [case for case in cases if case.passed]
    languages: dict[str, LanguageCount] = {}
    for case in cases:
        counted = languages.setdefault(case.language, LanguageCount(language=case.language))
        counted.total += 1
        counted.passed += case.passed
    return Summary(
        # With 1 every case must pass: a sum of fractions may miss 1 by a rounding error.
        passed=len(passed) == len(cases) if plan.pass_score == 1 else score >= plan.pass_score,
        score=round(score, 6),
        pass_score=plan.pass_score,
        total=len(cases),
        passed_cases=len(passed),
        failed_cases=len(cases) - len(passed),
        flaky_cases=sum(case.flaky for case in cases),
        runs=sum(case.repetitions for case in cases),
        verdicts=dict(Counter(case.verdict for case in cases).most_common()),
        languages=sorted(languages.values(), key=lambda one: one.language),
        wall_time_ms=wall_times([case.wall_time_ms for case in cases]),
        memory_peak_kb=max((case.memory_peak_kb for case in cases), default=0),
    )


def wall_times(times: Sequence[int]) -> WallTimes:
    """Percentiles and a histogram of wall times."""
    ordered = sorted(times)
    counts = Counter(next((b for b in BUCKETS_MS if time <= b), None) for time in ordered)
    return WallTimes(
        p50=percentile(ordered, 50),
        p95=percentile(ordered, 95),
        p99=percentile(ordered, 99),
        max=ordered[-1] if ordered else 0,
        total=sum(ordered),
        histogram=[(bound, counts[bound]) for bound in (*BUCKETS_MS, None)],
    )


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The nearest rank; 0 of nothing."""
    if not ordered:
        return 0
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

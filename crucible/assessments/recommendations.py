"""What to do about the outcome of an assessment, ranked, each with its evidence. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crucible.assessments.report import CaseOutcome
    from crucible.models import Limits

Severity = Literal["high", "medium", "low"]
Kind = Literal["failures", "raise_limit", "flaky", "slow", "memory"]

#: Cases that one recommendation names; it counts them all.
MAX_EVIDENCE = 10
#: A case is slow, or hungry, that uses more than this share of its limit, or so many times the
#: median where there is enough to compare.
NEAR_LIMIT, TIMES_MEDIAN, ENOUGH_CASES = 0.8, 5.0, 5
#: The least that is worth a word.
_LEAST_MS, _LEAST_KB = 500, 64 * 1024
#: Limits that a verdict speaks of.
_LIMIT_OF = {
    "timeout": "wall_time_s",
    "cpu_limit": "cpu_time_s",
    "memory_limit": "memory_mb",
    "output_limit": "output_kb",
    "disk_limit": "disk_mb",
    "pids_limit": "pids",
}
_ADVICE = {
    "compile_error": "fix what the compiler refuses",
    "nonzero_exit": "look at the exit codes and at what the programs wrote to standard error",
    "signalled": "look for crashes: the programs were ended by a signal",
    "wrong_answer": "compare the outputs of the failed tests with the expected ones",
    "presentation_error": "the answers are right but for white space; see compare.mode",
    "partial": "some tests earn only part of their points",
    "internal_error": "the platform failed, not the programs: run these again",
    "cancelled": "these were cancelled: run them again",
    "expired": "these waited too long: run them again",
}
_RANK: dict[Severity, int] = {"high": 0, "medium": 1, "low": 2}


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A case that a recommendation follows from.

    Attributes:
        case: its id.
        number: its position.
        name: for people.
        detail: what was seen.
        eval_id: where to look.
    """

    case: str
    number: int
    name: str = ""
    detail: str
    eval_id: str = ""


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """Something to do.

    Attributes:
        rank: 1 for the most urgent.
        kind: ``failures``, ``raise_limit``, ``flaky``, ``slow`` or ``memory``.
        severity: ``high``, ``medium`` or ``low``.
        title: in one line.
        action: what to do.
        cases: how many it is about.
        lost_score: how much of the score they lost, 0 to 1.
        evidence: the first of them, those that cost most before the others.
    """

    rank: int
    kind: Kind
    severity: Severity
    title: str
    action: str
    cases: int
    lost_score: float
    evidence: list[Evidence]


class Limited(msgspec.Struct, frozen=True):
    """A case with the limits it was run with.

    Attributes:
        outcome: what came of it.
        limits: wall time, processor time and memory among them.
    """

    outcome: CaseOutcome
    limits: Limits


def recommend(cases: Sequence[Limited]) -> list[Recommendation]:
    """Everything that is worth doing, the most urgent first."""
    weight = sum(case.outcome.weight for case in cases) or 1.0
    found = [*_failures(cases, weight), *_flaky(cases, weight), *_slow(cases), *_hungry(cases)]
    found.sort(key=lambda one: (_RANK[one.severity], -one.lost_score, -one.cases, one.title))
    return [msgspec.structs.replace(one, rank=rank) for rank, one in enumerate(found, 1)]


def _failures(cases: Sequence[Limited], weight: float) -> Iterator[Recommendation]:
    by_verdict: dict[str, list[Limited]] = defaultdict(list)
    for case in cases:
        if not case.outcome.passed and not case.outcome.flaky:
            by_verdict[case.outcome.verdict].append(case)
    for verdict, failed in by_verdict.items():
        limit = _LIMIT_OF.get(verdict)
        lost = _lost(failed, weight)
        title = f"{_cases(len(failed))} ended with {verdict}"
        yield Recommendation(
            rank=0,
            kind="failures" if limit is None else "raise_limit",
            severity="high" if lost >= 0.05 or verdict == "internal_error" else "medium",
            title=title,
            action=_ADVICE.get(verdict, f"look at why they end with {verdict}")
            if limit is None
            else f"make them cheaper, or raise {limit}",
            cases=len(failed),
            lost_score=lost,
            evidence=[_evidence(case, _failed_with(case, limit)) for case in _dearest(failed)],
        )


def _flaky(cases: Sequence[Limited], weight: float) -> Iterator[Recommendation]:
    flaky = [case for case in cases if case.outcome.flaky]
    if flaky:
        yield Recommendation(
            rank=0,
            kind="flaky",
            severity="high",
            title=f"{_cases(len(flaky))} passed in some repetitions only",
            action="look for time, randomness and order that the programs depend on",
            cases=len(flaky),
            lost_score=_lost(flaky, weight),
            evidence=[
                _evidence(
                    case,
                    f"{case.outcome.passed_runs} of {case.outcome.repetitions} repetitions passed; "
                    f"the first failure: {case.outcome.verdict}",
                )
                for case in _dearest(flaky)
            ],
        )


def _slow(cases: Sequence[Limited]) -> Iterator[Recommendation]:
    def share(case: Limited) -> float:
        return case.outcome.wall_time_ms / (case.limits.wall_time_s * 1000)

    usual = _median([case.outcome.wall_time_ms for case in cases])
    slow = [
        case
        for case in cases
        if case.outcome.passed
        and _stands_out(case.outcome.wall_time_ms, usual, share(case), len(cases), _LEAST_MS)
    ]
    if slow:
        slow.sort(key=lambda case: -case.outcome.wall_time_ms)
        near = any(share(case) >= NEAR_LIMIT for case in slow)
        yield Recommendation(
            rank=0,
            kind="slow",
            severity="medium" if near else "low",
            title=f"{_cases(len(slow))} took unusually long",
            action="raise wall_time_s before they begin to fail, or make them faster"
            if near
            else "look at what they spend their time on",
            cases=len(slow),
            lost_score=0.0,
            evidence=[
                _evidence(
                    case,
                    f"{case.outcome.wall_time_ms} ms of {case.limits.wall_time_s:g} s allowed; "
                    f"the median of all is {usual} ms",
                )
                for case in slow[:MAX_EVIDENCE]
            ],
        )


def _hungry(cases: Sequence[Limited]) -> Iterator[Recommendation]:
    def share(case: Limited) -> float:
        return case.outcome.memory_peak_kb / (case.limits.memory_mb * 1024)

    usual = _median([case.outcome.memory_peak_kb for case in cases])
    hungry = [
        case
        for case in cases
        if case.outcome.passed
        and _stands_out(case.outcome.memory_peak_kb, usual, share(case), len(cases), _LEAST_KB)
    ]
    if hungry:
        hungry.sort(key=lambda case: -case.outcome.memory_peak_kb)
        near = any(share(case) >= NEAR_LIMIT for case in hungry)
        yield Recommendation(
            rank=0,
            kind="memory",
            severity="medium" if near else "low",
            title=f"{_cases(len(hungry))} used unusually much memory",
            action="raise memory_mb before they begin to fail, or have them use less"
            if near
            else "look at what they keep in memory",
            cases=len(hungry),
            lost_score=0.0,
            evidence=[
                _evidence(
                    case,
                    f"{case.outcome.memory_peak_kb // 1024} MiB of {case.limits.memory_mb} MiB "
                    f"allowed; the median of all is {usual // 1024} MiB",
                )
                for case in hungry[:MAX_EVIDENCE]
            ],
        )


def _stands_out(value: int, usual: int, share: float, cases: int, least: int) -> bool:
    if share >= NEAR_LIMIT:
        return True
    return cases >= ENOUGH_CASES and value >= least and value > TIMES_MEDIAN * usual


def _median(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2] if values else 0


def _lost(cases: Sequence[Limited], weight: float) -> float:
    lost = sum(case.outcome.weight * (1 - case.outcome.score) for case in cases)
    return round(lost / weight, 6)


def _dearest(cases: Sequence[Limited]) -> list[Limited]:
    ordered = sorted(cases, key=lambda one: -one.outcome.weight * (1 - one.outcome.score))
    return ordered[:MAX_EVIDENCE]


def _failed_with(case: Limited, limit: str | None) -> str:
    said = case.outcome.message or f"verdict {case.outcome.verdict}"
    if case.outcome.total_tests:
        said = f"{case.outcome.passed_tests} of {case.outcome.total_tests} tests passed; {said}"
    return said if limit is None else f"{said}; {limit} is {getattr(case.limits, limit):g}"


def _evidence(case: Limited, detail: str) -> Evidence:
    one = case.outcome
    return Evidence(
        case=one.id, number=one.number, name=one.name, detail=detail, eval_id=one.eval_id
    )


def _cases(count: int) -> str:
    return f"{count} case" if count == 1 else f"{count} cases"

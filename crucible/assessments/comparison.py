"""Two assessments of the same suite beside each other. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from crucible.assessments.report import AssessmentReport, CaseOutcome

#: A case got slower, or faster, by this factor at least, and by this many milliseconds.
SLOWER, LEAST_MS = 1.5, 50


class CaseChange(msgspec.Struct, frozen=True, kw_only=True):
    """A case that came out differently.

    Attributes:
        case: its id.
        name: for people.
        before: verdict in the earlier assessment; null where it had no such case.
        after: verdict in the later one; null where it has no such case.
        score_before: 0 to 1, or null.
        score_after: 0 to 1, or null.
        wall_time_ms_before: how long it took, or null.
        wall_time_ms_after: the same in the later one.
    """

    case: str
    name: str
    before: str | None
    after: str | None
    score_before: float | None
    score_after: float | None
    wall_time_ms_before: int | None
    wall_time_ms_after: int | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What changed from one assessment to another.

    Attributes:
        baseline: id of the earlier one.
        assessment_id: id of the later one.
        score_change: by how much the score rose.
        regressions: cases that passed and do not any more, or score less.
        improvements: cases that did not pass and do now, or score more.
        slower: cases that pass in both and take much longer now.
        faster: the same, much shorter.
        added: cases the earlier one did not have.
        removed: cases only the earlier one had.
        unchanged: how many others there are.
    """

    baseline: str
    assessment_id: str
    score_change: float
    regressions: list[CaseChange]
    improvements: list[CaseChange]
    slower: list[CaseChange]
    faster: list[CaseChange]
    added: list[CaseChange]
    removed: list[CaseChange]
    unchanged: int


def compare(baseline: AssessmentReport, later: AssessmentReport) -> Comparison:
    """What changed; cases are the same that have the same id."""
    before = {case.id: case for case in baseline.cases}
    after = {case.id: case for case in later.cases}
    lists: dict[str, list[CaseChange]] = {
        name: [] for name in
        ("regressions", "improvements", "slower", "faster", "added", "removed", "unchanged")
    }  # fmt: skip
    for case_id, now in after.items():
        earlier = before.get(case_id)
        kind = "added" if earlier is None else _kind(earlier, now)
        lists[kind].append(_change(earlier, now))
    lists["removed"] = [_change(one, None) for one in baseline.cases if one.id not in after]
    unchanged = len(lists.pop("unchanged"))
    return Comparison(
        baseline=baseline.assessment_id,
        assessment_id=later.assessment_id,
        score_change=round(later.summary.score - baseline.summary.score, 6),
        unchanged=unchanged,
        **lists,
    )


def _kind(before: CaseOutcome, after: CaseOutcome) -> str:
    if before.passed != after.passed:
        return "improvements" if after.passed else "regressions"
    if before.score != after.score:
        return "improvements" if after.score > before.score else "regressions"
    if after.passed and _much_more(after.wall_time_ms, before.wall_time_ms):
        return "slower"
    if after.passed and _much_more(before.wall_time_ms, after.wall_time_ms):
        return "faster"
    return "unchanged"


def _much_more(one: int, other: int) -> bool:
    return one > other * SLOWER and one - other >= LEAST_MS


def _change(before: CaseOutcome | None, after: CaseOutcome | None) -> CaseChange:
    some = after or before
    assert some is not None
    return CaseChange(
        case=some.id,
        name=some.name,
        before=None if before is None else before.verdict,
        after=None if after is None else after.verdict,
        score_before=None if before is None else before.score,
        score_after=None if after is None else after.score,
        wall_time_ms_before=None if before is None else before.wall_time_ms,
        wall_time_ms_after=None if after is None else after.wall_time_ms,
    )

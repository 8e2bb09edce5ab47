"""Which tests are skipped, and what a whole request comes to. Pure.

Points are counted test by test: a group matters for ``stop: "group"`` alone, where its first
failure skips the rest of it. Only ``accepted`` passes; ``partial`` earns points and does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.grading.models import Grading, GradingTest, Judgement, Stop


class StopRule:
    """Decides which tests do not run any more."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._failed = ""
        self._failed_groups: dict[str, str] = {}

    def why_skipped(self, test: GradingTest) -> str | None:
        """Why a test is not to run; None if it is."""
        if self._stop == "first_failure" and self._failed:
            return f"skipped: test {self._failed} failed"
        first = self._failed_groups.get(test.group) if self._stop == "group" else None
        return f"skipped: test {first} of group {test.group} failed" if first else None

    def judged(self, test: GradingTest, verdict: Verdict) -> None:
        """Take note of a test that has run."""
        if verdict is not Verdict.ACCEPTED:
            self._failed = self._failed or test.id
            if test.group:
                self._failed_groups.setdefault(test.group, test.id)


class Score(msgspec.Struct, frozen=True):
    """What a request came to.

    Attributes:
        verdict: ``accepted``, or that of the first test that failed; ``timeout`` where none did and
            the time of the request was used up before all had run.
        first: that test's judgement, or that of the first one skipped, or None.
        passed: tests that were accepted.
        total: tests.
        score: points earned of all points, 0 to 1.
    """

    verdict: Verdict
    first: Judgement | None
    passed: int
    total: int
    score: float


def score_of(grading: Grading, judgements: Sequence[Judgement]) -> Score:
    """What the judgements of all tests come to.

    Where no test is worth a point, the score is 1 when all passed, else 0.
    """
    failed = [one for one in judgements if one.verdict is not Verdict.ACCEPTED]
    first = next((one for one in failed if one.verdict is not Verdict.SKIPPED), None)
    verdict = first.verdict if first else Verdict.TIMEOUT if failed else Verdict.ACCEPTED
    points = sum(test.points for test in grading.tests)
    earned = sum(one.points for one in judgements)
    return Score(
        verdict=verdict,
        first=first or (failed[0] if failed else None),
        passed=len(judgements) - len(failed),
        total=len(grading.tests),
        score=min(1.0, earned / points) if points else float(not failed),
    )

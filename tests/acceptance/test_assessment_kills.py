"""The short form of ``python -m benchmarks.assessments --kills``."""

from __future__ import annotations

import pytest

from benchmarks.assessment_kills import SUBJECTS, run

pytestmark = pytest.mark.timeout(300)


async def test_deaths_in_a_mixed_fleet_change_no_report() -> None:
    """One death each: no report differs, nothing is held or left, no progress goes back."""
    outcomes = await run(1, SUBJECTS, ["mixed"], count=6)
    assert [one.subject for one in outcomes] == list(SUBJECTS)
    assert [one for one in outcomes if one.faults or one.kills != 1] == []
    assert [case["verdict"] for case in outcomes[0].reports[0][1][-3:]] == [
        "nonzero_exit", "signalled", "wrong_answer"
    ]  # fmt: skip

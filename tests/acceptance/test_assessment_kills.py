"""The short form of ``python -m benchmarks.assessments --kills``: both subjects, every fleet."""

from __future__ import annotations

import pytest

from benchmarks.assessment_kills import FLEETS, SUBJECTS, run

pytestmark = pytest.mark.timeout(300)


async def test_deaths_and_fleets_change_no_report() -> None:
    """One death for each; no report differs, nothing is held or left, no progress goes back."""
    outcomes = await run(1, SUBJECTS, list(FLEETS), count=6)
    assert [(one.subject, one.fleet) for one in outcomes] == [
        (subject, fleet) for subject in SUBJECTS for fleet in FLEETS
    ]
    assert [one for one in outcomes if one.faults or one.kills != 1] == []

"""Reports and recommendations from what is stored of an assessment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.assessments.recommendations import Limited, Recommendation, recommend
from crucible.assessments.record import Head, Runs, eval_id_of
from crucible.assessments.report import AssessmentReport, CaseOutcome, outcome_of, summary_of
from crucible.assessments.store import every_case
from crucible.errors import InputError
from crucible.evaluation.limits import checked_limits
from crucible.evaluation.record import public_id
from crucible.evaluation.view import text_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.assessments.store import AssessmentStore
    from crucible.assessments.suite import Case
    from crucible.evaluation.allowance import Allowance
    from crucible.models import Limits


async def made_recommendations(
    store: AssessmentStore, allowed: Allowance, assessment_id: str
) -> list[Recommendation]:
    """What to do about an assessment.

    Raises:
        NotFound: there is no such assessment.
        InputError: its runs have not ended.
    """
    head = await store.get(assessment_id)
    limited = [
        Limited(outcome, _limits(case, allowed)) async for case, outcome in _outcomes(store, head)
    ]
    return recommend(limited)


async def made_report(
    store: AssessmentStore, allowed: Allowance, assessment_id: str
) -> AssessmentReport:
    """The report of an assessment; raises what ``made_recommendations`` raises."""
    head = await store.get(assessment_id)
    kept = await store.report(assessment_id, "recommendations")
    if kept is None:
        recommendations = await made_recommendations(store, allowed, assessment_id)
    else:
        recommendations = msgspec.json.decode(kept, type=list[Recommendation])
    cases = [outcome async for _, outcome in _outcomes(store, head)]
    return AssessmentReport(
        assessment_id=public_id(assessment_id),
        name=head.plan.name,
        status="completed",
        created_at=text_time(head.plan.created_ms),
        started_at=None if head.started_ms is None else text_time(head.started_ms),
        finished_at=text_time(head.updated_ms),
        summary=summary_of(head.plan, cases),
        recommendations=recommendations,
        cases=cases,
    )


async def _outcomes(store: AssessmentStore, head: Head) -> AsyncIterator[tuple[Case, CaseOutcome]]:
    """Every case and what came of it.

    Raises:
        InputError: one of its runs has not ended.
    """
    places = Runs(head.repetitions)
    async for number, case, runs in every_case(store, head):
        known = [run for run in runs if run is not None]
        if not known or len(known) < len(runs):
            raise InputError("assessment_id", f"case {number} has not ended")
        first = places.first(number)
        eval_ids = [eval_id_of(head.id, first + at) for at in range(len(runs))]
        yield case, outcome_of(number, case, known, eval_ids)


def _limits(case: Case, allowed: Allowance) -> Limits:
    """What a case was run with."""
    _, language = allowed.served.find(case.program.language, case.program.environment)
    return checked_limits(case.program.limits, allowed.ceilings, language.defaults)

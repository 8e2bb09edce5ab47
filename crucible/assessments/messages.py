"""The task messages of assessments, the same from every producer of this project."""

from __future__ import annotations

from crucible.broker.canvas.signature import Signature, chain, signature

PROCESS = "tasks.process_assessment"
RECOMMEND = "tasks.generate_assessment_recommendations"
REPORT = "tasks.generate_report"
#: Where the cases are followed, and where reports are made.
QUEUE, REPORTS_QUEUE = "assessments", "reports"


def process(assessment_id: str) -> Signature:
    """Run the cases, or go on with them."""
    return signature(PROCESS, [assessment_id], queue=QUEUE)


def reporting(assessment_id: str) -> Signature:
    """What follows once every run has ended."""
    return chain(
        signature(RECOMMEND, [assessment_id], immutable=True, queue=REPORTS_QUEUE),
        signature(REPORT, [assessment_id], immutable=True, queue=REPORTS_QUEUE),
    )

"""What receivers of webhooks get of an evaluation."""

from __future__ import annotations

import msgspec

from crucible.evaluation.webhook_outlet import MAX_OUTPUT, body_of
from crucible.models import Evaluation, Status, TestResult, Verdict
from crucible.webhooks.planning import End

END = End(
    tenant="acme", eval_id="a", status="failed", verdict="wrong_answer", ended_ms=1_795_856_253_000
)


def test_results_of_tests_stay_out() -> None:
    """There may be a thousand, each with its output; the score is there."""
    evaluation = Evaluation(
        eval_id="a",
        task_id="eval-a",
        status=Status.COMPLETED,
        verdict=Verdict.WRONG_ANSWER,
        output="x" * (MAX_OUTPUT + 1),
    )
    evaluation.tests = [TestResult(id="t1", verdict=Verdict.WRONG_ANSWER, output="y" * 1000)]
    evaluation.passed, evaluation.total = 0, 1
    data = msgspec.json.decode(body_of(END, evaluation))["data"]
    assert "tests" not in data
    assert (data["passed"], data["total"], data["verdict"]) == (0, 1, "wrong_answer")
    assert (len(data["output"]), data["output_cut"]) == (MAX_OUTPUT, True)


def test_of_what_is_gone_only_the_end_is_known() -> None:
    """Its result has expired, or is one of a later attempt."""
    body = msgspec.json.decode(body_of(END, None))
    assert body["type"] == "evaluation.failed"
    assert body["data"] == {
        "eval_id": "a",
        "status": "failed",
        "verdict": "wrong_answer",
        "finished_at": body["timestamp"],
        "href": "/api/eval/a",
    }

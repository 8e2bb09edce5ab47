"""When two ends of one program are equal, and what is said when they are not."""

from __future__ import annotations

from typing import Any

import pytest

from crucible.migration.comparison import Kind, differences, judge
from crucible.migration.operations.compare import Report
from crucible.migration.operations.report import html
from crucible.models import Evaluation, Status, Usage, Verdict


def end(**fields: Any) -> Evaluation:
    """An ended evaluation."""
    given = {"verdict": Verdict.OK, "exit_code": 0, "output": "out\n", **fields}
    return Evaluation(eval_id="e", task_id="eval-e", status=Status.COMPLETED, **given)


def test_equal_ends_are_equal_whatever_they_used() -> None:
    """Duration and memory are told and never a mismatch."""
    fast, slow = Usage(wall_time_ms=1), Usage(wall_time_ms=900, memory_peak_kb=77)
    found = judge("p", end(usage=fast), end(usage=slow))
    assert (found.kind, found.differences) == (Kind.EQUAL, [])
    assert (found.legacy.wall_time_ms, found.celery.memory_peak_kb) == (1, 77)


def test_the_same_bytes_in_two_encodings_are_equal() -> None:
    """What counts is what was printed, not how it travelled."""
    assert differences(end(output="b3V0Cg==", output_encoding="base64"), end()) == []


@pytest.mark.parametrize(
    ("fields", "field", "at"),
    [
        ({"output": "out"}, "output", 3),
        ({"output": "oxt\n"}, "output", 1),
        ({"error": "x"}, "error", 0),
        ({"exit_code": 1, "verdict": Verdict.OK}, "exit_code", None),
        ({"verdict": Verdict.TIMEOUT}, "verdict", None),
        ({"signal": 9}, "signal", None),
        ({"output_truncated": True}, "output_truncated", None),
    ],
)
def test_every_field_is_held_to(fields: dict[str, Any], field: str, at: int | None) -> None:
    """One byte, one code, one verdict: each difference is named, and where it begins."""
    [found] = differences(end(), end(**fields))
    assert (found.field, found.at) == (field, at)
    assert judge("p", end(), end(**fields)).kind is Kind.MISMATCH


def test_a_program_that_differs_from_itself_is_nondeterministic() -> None:
    """Further runs on one side that disagree with the first take the blame off the sides."""
    legacy, celery = end(output="1"), end(output="2")
    assert judge("p", legacy, celery, [end(output="3")]).kind is Kind.NONDETERMINISTIC
    assert judge("p", legacy, celery, [end(output="2")] * 2).kind is Kind.MISMATCH


def test_what_the_platform_did_not_run_is_no_mismatch() -> None:
    """A fault of the platform says nothing about the program, and says which side had it."""
    failed = end(verdict=Verdict.INTERNAL_ERROR, message="no engine", queue_system="legacy")
    found = judge("p", failed, end())
    assert (found.kind, found.detail) == (Kind.NOT_RUN, "legacy: no engine")


def test_the_page_shows_what_differs_and_runs_nothing_of_it() -> None:
    """A program's output is shown as text, also where it would be markup."""
    found = judge("<p>", end(output="<script>alert(1)</script>"), end())
    counts = {kind.value: int(kind is Kind.MISMATCH) for kind in Kind}
    page = html(Report(counts=counts, programs=[found]))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "1 mismatch" in page

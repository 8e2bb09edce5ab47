from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from crucible.broker.results.meta import Meta
from crucible.evaluation.grading import graded, progress_meta
from crucible.evaluation.grading_request import SHOWN_TOTAL_BYTES
from crucible.evaluation.result import bytes_of, plain
from crucible.evaluation.view import evaluation_of
from crucible.grading.models import Grading, GradingTest, Judgement
from crucible.models import Program, Status, TestProgress, Usage, Verdict

GRADING = Grading(
    program=Program(language="python", code="x", isolation="nested"),
    tests=(GradingTest(id="a"), GradingTest(id="b", points=3)),
)


def meta(state: str, result: object) -> Meta:
    """What is stored of a task."""
    return Meta(task_id="eval-e", status=state, result=result)


def test_what_a_client_sees() -> None:
    """The judgements, and what they come to, as the view of the evaluation."""
    judgements = [
        Judgement(
            id="a",
            verdict=Verdict.ACCEPTED,
            points=1.0,
            stdout=b"\xff",
            usage=Usage(wall_time_ms=5, cpu_time_ms=2, memory_peak_kb=100),
        ),
        Judgement(
            id="b",
            verdict=Verdict.TIMEOUT,
            message="still running after 1 s",
            usage=Usage(wall_time_ms=1000, cpu_time_ms=3, memory_peak_kb=50),
        ),
    ]
    view = evaluation_of("e", None, meta("SUCCESS", plain(graded("e", GRADING, judgements))))
    assert (view.status, view.verdict) == (Status.FAILED, Verdict.TIMEOUT)
    assert (view.passed, view.total, view.score) == (1, 2, 0.25)
    assert view.isolation == "nested"
    assert view.usage == Usage(wall_time_ms=1005, cpu_time_ms=5, memory_peak_kb=100)
    assert view.message == "1 of 2 tests passed; test b: timeout, still running after 1 s"
    assert view.tests is not msgspec.UNSET
    assert bytes_of(view.tests[0].output, view.tests[0].output_encoding) == b"\xff"


def test_progress_of_a_running_one() -> None:
    """What the task stores while it runs is the view's progress; other states have none."""
    judgements = [Judgement(id="a", verdict=Verdict.ACCEPTED)]
    stored = progress_meta(GRADING, judgements, "w@h")
    assert stored["progress"] == 50
    view = evaluation_of("e", None, meta("PROGRESS", stored))
    assert (view.status, view.worker) == (Status.RUNNING, "w@h")
    assert view.progress == TestProgress(tests_done=1, tests_total=2, passed=1)
    started = evaluation_of("e", None, meta("STARTED", {"hostname": "w@h"}))
    assert started.progress is msgspec.UNSET


@given(st.text(alphabet="aé漢😀", min_size=1), st.integers(0, 20))
def test_a_cut_output_stays_text(text: str, size: int) -> None:
    """A cap in the middle of a character takes that character along."""
    data = text.encode()[:size]
    judgement = Judgement(id="a", verdict=Verdict.ACCEPTED, stdout=data, output_truncated=True)
    result = graded("e", GRADING, [judgement, judgement])
    assert result.tests is not msgspec.UNSET
    assert result.tests[0].output_encoding == "utf-8"
    assert text.startswith(result.tests[0].output)


def test_the_largest_result_is_bounded() -> None:
    """A thousand tests that print all they may are a few megabytes, base64 included."""
    shown = SHOWN_TOTAL_BYTES // 1000 // 2
    judgement = Judgement(
        id="x" * 64,
        verdict=Verdict.ACCEPTED,
        stdout=b"\xff" * shown,
        stderr=b"\xff" * shown,
        message="m" * 500,
    )
    grading = Grading(
        program=GRADING.program, tests=tuple(GradingTest(id=str(n)) for n in range(1000))
    )
    result = graded("e", grading, [judgement] * 1000)
    assert len(msgspec.json.encode(result)) < 3 * SHOWN_TOTAL_BYTES

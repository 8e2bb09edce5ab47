"""Which ends workers tell the count of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from crucible.evaluation.completion_hooks import CompletionHooks
from crucible.evaluation.completion_store import CompletionCounts
from crucible.evaluation.completions import CompletionCounter

if TYPE_CHECKING:
    from crucible.models import Status


class Noted(CompletionCounter):
    """A tally that shows what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[str, str]] = []

    def note(
        self, side: str, status: Status, eval_id: str, duration_s: float | None = None
    ) -> None:
        """Remember it."""
        assert (side, duration_s) == ("celery", None)
        self.ends.append((eval_id, status.value))


@pytest.mark.parametrize(
    ("task", "result", "ends"),
    [
        ("eval", {"eval_id": "a", "status": "completed"}, [("a", "completed")]),
        ("eval", {"eval_id": "a", "status": "failed"}, [("a", "failed")]),
        (
            "eval",
            [{"eval_id": "a", "status": "failed"}, {"eval_id": "b", "status": "completed"}],
            [("a", "failed"), ("b", "completed")],
        ),
        ("other", {"eval_id": "a", "status": "completed"}, []),
        ("eval", {"status": "running", "eval_id": "a"}, []),
        ("eval", {}, []),
        ("eval", None, []),
        ("eval", [None, 7, {"status": ["completed"]}], []),
    ],
)
def test_what_a_task_returned(task: str, result: Any, ends: list[tuple[str, str]]) -> None:
    """Evaluations by their own id and status; nothing else, whatever a task returns."""
    noted = Noted()
    CompletionHooks(noted, ("eval",)).returned(task, result)
    assert noted.ends == ends


def test_durations_are_told_cumulatively() -> None:
    """Each bound counts all that took no longer, as Prometheus reads it."""
    counts = CompletionCounts()
    counts.durations.update({"0.01": 1, "0.25": 2, "+Inf": 4})
    found = dict(counts.cumulative())
    assert (found["0.01"], found["0.1"], found["0.25"]) == (1, 1, 3)
    assert (found["120.0"], found["+Inf"]) == (3, 7)
    assert list(found)[-1] == "+Inf"

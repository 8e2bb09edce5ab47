from __future__ import annotations

from typing import Any

import pytest

from benchmarks.chaos.outages.cells import MATRIX, SECONDS, SHORT, Cell, Side, State, select
from benchmarks.chaos.outages.runs import Began, Ended
from benchmarks.chaos.outages.verdict import Seen, Verdict, judge

CELL = Cell(12, State.FROZEN, Side.BOTH)


def judged(cell: Cell = CELL, **changes: Any) -> Verdict:
    """A cell in which one evaluation ran well, and what is changed of it."""
    well: dict[str, Any] = {
        "restored_at": 100.0,
        "accepted": {"a": 101.0},
        "refused": {503: 4, 0: 1},
        "records": [Began("a", "1", "w", 101.5), Ended("a", "1", 102.0)],
        "statuses": {"a": "SUCCESS"},
        "left": 0,
        "dead_letters": 0,
        "ended": [],
        "running": 1,
    }
    return judge(cell, Seen(**{**well, **changes}))


def test_a_cell_that_went_well_has_no_faults() -> None:
    """Refusals and silence are what an outage is; the times run from the server's return."""
    verdict = judged()
    assert verdict.faults == verdict.late == []
    assert (verdict.api_back_s, verdict.worker_back_s) == (1.0, 1.5)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"statuses": {"a": "STARTED"}}, "1 lost"),
        ({"records": [Began("a", "1", "w", 101.5)]}, "1 lost"),
        (
            {"records": [*(Began("a", n, "w", 1.0) for n in "12"), Ended("a", "2", 3.0)]},
            "1 twice",
        ),
        ({"statuses": {"a": "FAILURE"}}, "1 failed"),
        ({"left": 2, "dead_letters": 1}, "3 left"),
        ({"ended": ["api"]}, "1 ended"),
        ({"refused": {500: 2}}, "2 refused with neither 503 nor silence"),
    ],
)
def test_each_fault_is_seen(changes: dict[str, Any], fault: str) -> None:
    """Nothing that must not be passes the judge."""
    assert judged(**changes).faults == [fault]


def test_who_was_not_affected_need_not_come_back() -> None:
    """A side's time is that of an outage it had."""
    assert judged(Cell(12, State.FROZEN, Side.API)).worker_back_s is None
    assert judged(Cell(12, State.FROZEN, Side.WORKER)).api_back_s is None


def test_what_is_late_is_told_apart() -> None:
    """A busy machine decides over times as well, so they are no faults."""
    verdict = judged(accepted={"a": 105.5})
    assert verdict.faults == []
    assert verdict.late == ["api back after 5.5 s"]


def test_cells_are_chosen_by_name_the_longest_first() -> None:
    """Patterns choose; one that matches nothing is a mistake."""
    assert len(MATRIX) == len(SECONDS) * len(State) * len(Side)
    assert set(SHORT) <= set(MATRIX)
    assert [cell.name for cell in select(["*-full-api"])][:2] == ["90-full-api", "30-full-api"]
    with pytest.raises(ValueError, match="no cell is called"):
        select(["12-lost-both"])

"""The judge of the battle with everything on sees each kind of disagreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.chaos.service.judge import Delivered, Found, Verdict, judge
from benchmarks.chaos.service.ledger import OK, Asked, Ledger, Suite, run_id

if TYPE_CHECKING:
    from collections.abc import Callable

AT = 1_000_000.0


def _ledger() -> Ledger:
    asked = Asked("plain", (OK,), "42\n", webhook=True, at=AT)
    return Ledger("t", {"e": asked}, {"s": Suite(runs=4, passed_cases=2)})


def _found() -> Found:
    return Found(
        results={"e": {"status": "completed", "verdict": "ok", "output": "42\n"}},
        history={"e": OK},
        deliveries={"e": Delivered({"msg_1"}, {OK})},
        events={"e": [OK]},
        reports={"s": {"summary": {"runs": 4, "passed_cases": 2}}},
    )


def _judged(found: Found, kills: list[float] | None = None) -> Verdict:
    verdict = Verdict()
    judge(verdict, [_ledger()], found, kills or [])
    return verdict


def test_records_that_agree() -> None:
    """No fault, and both are counted."""
    verdict = _judged(_found())
    assert verdict.faults == []
    assert verdict.kinds == {"plain": 1, "assessment": 1}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda found: found.results.clear(), "expected"),
        (lambda found: found.results["e"].update(verdict="timeout"), "expected"),
        (lambda found: found.results["e"].update(output="41\n"), "printed"),
        (lambda found: found.history.clear(), "in the history None"),
        (lambda found: found.history.update(e=("failed", "timeout")), "in the history"),
        (lambda found: found.deliveries.clear(), "delivered"),
        (lambda found: found.deliveries["e"].ids.add("msg_2"), "delivered"),
        (lambda found: found.deliveries["e"].ends.add(("failed", "timeout")), "delivered"),
        (lambda found: found.events["e"].append(("failed", "timeout")), "on the bus"),
        (lambda found: found.events.clear(), "no event of its end"),
        (lambda found: found.reports.clear(), "no report"),
        (lambda found: found.reports["s"]["summary"].update(runs=3), "assessment s"),
    ],
)
def test_records_that_disagree(spoil: Callable[[Found], object], told: str) -> None:
    """Each is found, and named first by what it is."""
    found = _found()
    spoil(found)
    # A wrong result also differs from the event of its end.
    fault, *_ = _judged(found).faults
    assert told in fault


@pytest.mark.parametrize(("kill", "explained"), [(AT + 5, 1), (AT - 60, 0), (AT + 60, 0)])
def test_an_event_that_a_kill_explains(kill: float, explained: int) -> None:
    """The event of an end may be lost with what was killed in its time, and only then."""
    found = _found()
    found.events.clear()
    verdict = _judged(found, [kill])
    assert (verdict.explained, len(verdict.faults)) == (explained, 1 - explained)


@pytest.mark.parametrize(
    ("ends", "kill", "well"),
    [
        ([OK, OK], AT + 60, True),
        ([OK, ("cancelled", "cancelled")], AT + 5, True),
        ([OK, ("cancelled", "cancelled")], AT + 60, False),
        ([("cancelled", "cancelled"), OK], AT + 5, False),
    ],
)
def test_of_two_ends_the_first_is_that_of_the_result(
    ends: list[tuple[str, str]], kill: float, well: bool
) -> None:
    """And there are two that differ only where two workers may have run it."""
    found = _found()
    found.events["e"] = list(ends)
    assert (_judged(found, [kill]).faults == []) is well


@pytest.mark.parametrize(
    ("spoil", "kill", "excused"),
    [
        (lambda found: found.results.clear(), AT + 5, True),
        (lambda found: found.deliveries.clear(), AT + 5, True),
        # Nobody that may lose a message was killed soon after its publication.
        (lambda found: found.results.clear(), AT - 60, False),
        (lambda found: found.results.clear(), AT + 60, False),
        (lambda found: found.deliveries.clear(), AT + 60, False),
        # It is still somewhere, or an async worker has had it.
        (lambda found: (found.results.clear(), found.left.append("of (e)")), AT + 5, False),
        (lambda found: (found.results.clear(), found.named.update(e=AT + 1)), AT + 5, False),
        (lambda found: (found.deliveries.clear(), found.left.append("of (e)")), AT + 5, False),
    ],
)
def test_what_a_stock_worker_loses_is_counted_apart(
    spoil: Callable[[Found], object], kill: float, excused: bool
) -> None:
    """Only where nobody else can have lost it; without a stock worker nothing is excused."""
    found = _found()
    spoil(found)
    verdict = Verdict()
    judge(verdict, [_ledger()], found, [kill], [kill])
    assert (len(verdict.lost_by_stock), bool(verdict.faults)) == (excused, not excused)
    assert _judged(found, [kill]).faults


@pytest.mark.parametrize(("of", "excused"), [("s", True), ("another", False)])
def test_an_assessment_waits_for_a_run_that_a_stock_worker_lost(of: str, *, excused: bool) -> None:
    """Only for one of its own, and only for its report."""
    ledger, found, verdict = _ledger(), _found(), Verdict()
    ledger.asked = {run_id(of, 3): Asked("run", (OK,), at=AT)}
    found.results.clear()
    found.deliveries.clear()
    found.reports.clear()
    judge(verdict, [ledger], found, [AT + 5], [AT + 5])
    assert (verdict.faults == []) is excused
    assert len(verdict.lost_by_stock) == 1 + excused


@pytest.mark.parametrize(
    ("status", "held", "kill", "excused"),
    [
        ("queued", False, AT + 5, True),
        ("running", False, AT + 5, True),
        ("running", True, AT + 5, False),
        ("running", False, AT + 60, False),
        ("failed", False, AT + 5, False),
    ],
)
def test_an_assessment_whose_own_message_a_stock_worker_lost(
    status: str, *, held: bool, kill: float, excused: bool
) -> None:
    """It goes on with nobody's; one that has ended is somebody's fault."""
    found, verdict = _found(), Verdict()
    found.reports.clear()
    found.suites["s"] = {"status": status, "updated_at": "1970-01-12T13:46:40+00:00"}
    if held:
        found.left.append("of (s)")
    judge(verdict, [_ledger()], found, [kill], [kill])
    assert (verdict.faults == []) is excused
    assert verdict.lost_by_stock == ["assessment s has not ended"] * excused


@pytest.mark.parametrize(("back", "kill", "excused"), [(2, 5, True), (0, 5, False), (2, 90, False)])
def test_what_an_async_worker_put_back_is_in_its_list_again(
    back: float, kill: float, *, excused: bool
) -> None:
    """Unless an async worker had it since then."""
    found, verdict = _found(), Verdict()
    found.results.clear()
    found.named["e"] = AT + 1
    found.given_back["e"] = AT + back
    judge(verdict, [_ledger()], found, [AT + kill], [AT + kill])
    assert (len(verdict.lost_by_stock), bool(verdict.faults)) == (excused, not excused)


def test_a_message_may_wait_before_a_stock_worker_takes_it() -> None:
    """As long as others of that battle did, and a while."""
    ledger, found, verdict = _ledger(), _found(), Verdict()
    ledger.asked["lost"] = Asked("plain", (OK,), at=AT)
    found.results["e"]["started_at"] = "1970-01-12T13:47:20+00:00"
    judge(verdict, [ledger], found, [AT + 60], [AT + 60])
    assert (verdict.faults, verdict.lost_by_stock) == ([], ["lost (plain) has not ended"])
    # The clock of the worker that ran it was turned.
    found.results["e"]["started_at"] = "1970-01-12T13:56:40+00:00"
    verdict = Verdict()
    judge(verdict, [ledger], found, [AT + 60], [AT + 60])
    assert verdict.lost_by_stock == []
    assert verdict.faults


def test_what_is_left_is_a_fault() -> None:
    """Messages and claims that nobody works off."""
    verdict = Verdict()
    judge(verdict, [], Found(left=["one", "two"]), [])
    assert verdict.faults == ["2 messages and claims are left, as one"]


@pytest.mark.parametrize(
    ("left", "faults"), [("task of (s) again", 0), ("run s-3", 1), ("task of (s2)", 1)]
)
def test_an_assessment_that_waits_for_what_stock_lost_queues_itself_again(
    left: str, faults: int
) -> None:
    """Its message is no fault of its own; any other is."""
    ledger, found, verdict = _ledger(), _found(), Verdict()
    ledger.asked[run_id("s", 0)] = Asked("run", (OK,), at=AT)
    found.reports.clear()
    found.left = [left]
    judge(verdict, [ledger], found, [AT + 1], [AT + 1])
    assert verdict.lost_by_stock[-1] == "assessment s waits for one of them"
    assert len(verdict.faults) == faults

"""The chaos test's judge reports every kind of finding, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.chaos.executions import read
from benchmarks.chaos.injector import plan
from benchmarks.chaos.leftovers import Leftovers
from benchmarks.chaos.records import (
    Accepted,
    Ended,
    Expected,
    Fault,
    FaultKind,
    Offered,
    Record,
    Refused,
    Started,
)
from benchmarks.chaos.verdict import Verdict, judge
from benchmarks.chaos.workload import Kind, works

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("task-received", "task-started", "task-succeeded")


def sent(*tasks: Expected, accepted: bool = True) -> list[Record]:
    told = Accepted("w", 0.1) if accepted else Refused("w", "gone", 0.1)
    return [Offered("w", "no-op", "single", tasks, 0.0), told]


def ran(
    task: str, worker: str, begin: float, end: float | None, *, eta: float | None = None,
    got: tuple[str, ...] = (), attempt: int = 0,
) -> list[Record]:  # fmt: skip
    run = f"{task}-{worker}-{begin}"
    records: list[Record] = [Started(run, task, attempt, worker, 1, begin, eta)]
    return records if end is None else [*records, Ended(run, end, got=got)]


def judged(
    records: Sequence[Record], faults: Sequence[Fault] = (), left: Leftovers | None = None
) -> Verdict:
    history = read(records)
    left = left or Leftovers()
    left.states = dict.fromkeys(history.accepted, "SUCCESS") | left.states
    heard = {(run.start.worker, run.start.task, k) for run in history.executions for k in KINDS}
    return judge(history, faults, left, heard, [], [])


def test_a_quiet_run_has_no_findings() -> None:
    """A task that was accepted and ran once is all right."""
    verdict = judged([*sent(Expected("a")), *ran("a", "w1", 1.0, 2.0)])
    assert not verdict.failures
    assert (verdict.accepted, verdict.executions, verdict.events_due) == (1, 1, 1)


def test_what_was_accepted_and_is_nowhere_is_lost() -> None:
    """Lost counts confirmed tasks only; what waits for a lost one is counted apart."""
    assert judged(sent(Expected("a"))).lost == ["a"]
    assert not judged(sent(Expected("a"), accepted=False)).failures
    chain = judged(sent(Expected("a"), Expected("b", after=("a",))))
    assert (chain.lost, chain.behind) == (["a"], 1)


def test_a_body_that_never_came_is_lost() -> None:
    """All parts of a chord ended and its body is nowhere: that is a loss."""
    verdict = judged([*sent(Expected("a"), Expected("b", after=("a",))), *ran("a", "w1", 1, 2)])
    assert verdict.lost == ["b"]


@pytest.mark.parametrize("where", ["listed", "claimed"])
def test_what_is_left_over_is_stuck_not_lost(where: str) -> None:
    """A message still in a list or in unacked is stuck."""
    left = Leftovers()
    getattr(left, where).append("a")
    assert judged(sent(Expected("a")), left=left).failures == {"stuck": 1}


def test_an_end_without_a_result_is_a_finding() -> None:
    """A task that ended must have its result stored."""
    records = [*sent(Expected("a")), *ran("a", "w1", 1, 2)]
    verdict = judged(records, left=Leftovers(states={"a": "PENDING"}))
    assert verdict.failures == {"results missing": 1}


def test_a_failure_is_told_and_is_no_loss() -> None:
    """A task whose result says that it failed has ended, and should not have so."""
    left = Leftovers(states={"a": "FAILURE"}, errors={"a": "FAILURE oops"})
    assert judged(sent(Expected("a")), left=left).failures == {"failed": 1}


@pytest.mark.parametrize(
    ("faults", "explained"),
    [
        ([], False),
        ([Fault(FaultKind.KILL, "w1", 1.5)], True),
        ([Fault(FaultKind.KILL, "w1", 2.5)], True),  # before its end can have been confirmed
        ([Fault(FaultKind.KILL, "w1", 5.0)], False),  # too late to be the reason
        ([Fault(FaultKind.KILL, "w2", 1.5)], False),  # somebody else
        ([Fault(FaultKind.TERM, "w1", 1.5, 3.0)], False),  # a warm shutdown
        ([Fault(FaultKind.STOP, "w1", 1.5, 14.0)], True),
        ([Fault(FaultKind.RESTART, "", 1.5, 1.9)], True),
        ([Fault(FaultKind.STALL, "w2", 3.0, 8.5)], True),  # had it first, was cut off, went on
    ],
)
def test_a_repetition_needs_a_fault(faults: list[Fault], *, explained: bool) -> None:
    """Only a fault of the worker that had the message, and in time, explains a second run."""
    records = [*sent(Expected("a")), *ran("a", "w1", 1, 2), *ran("a", "w2", 9, 10)]
    verdict = judged(records, faults)
    assert (sum(verdict.explained.values()), len(verdict.unexplained)) == (
        (1, 0) if explained else (0, 1)
    )


def test_one_fault_does_not_explain_two_repetitions() -> None:
    """Every repetition needs an execution that a fault cut off."""
    records = [*sent(Expected("a"))]
    for worker, begin in (("w1", 1), ("w2", 9), ("w3", 10)):
        records += ran("a", worker, begin, begin + 0.5)
    verdict = judged(records, [Fault(FaultKind.KILL, "w1", 1.2)])
    assert (sum(verdict.explained.values()), len(verdict.unexplained)) == (1, 1)


def test_early_is_before_the_message_or_the_producer_said() -> None:
    """A start before the eta counts, be it that of the message or that of the ledger."""
    assert judged([*sent(Expected("a")), *ran("a", "w1", 1, 2, eta=1.5)]).failures == {"early": 1}
    assert judged([*sent(Expected("a", 1.5)), *ran("a", "w1", 1, 2)]).failures == {"early": 1}
    assert not judged([*sent(Expected("a", 1.0)), *ran("a", "w1", 1, 2, eta=1.0)]).failures


def test_a_body_must_be_given_every_result_once() -> None:
    """A chord's body that was given a result twice, or not at all, is wrong."""
    tasks = (Expected("a"), Expected("b"), Expected("c", after=("a", "b")))
    parts = [*sent(*tasks), *ran("a", "w1", 1, 2), *ran("b", "w1", 1, 2)]
    assert not judged([*parts, *ran("c", "w1", 3, 4, got=("b", "a"))]).failures
    assert judged([*parts, *ran("c", "w1", 3, 4, got=("a", "a"))]).wrong == ["c"]
    assert judged([*parts, *ran("c", "w1", 3, 4, got=("a",))]).wrong == ["c"]


def test_events_are_due_from_workers_left_alone() -> None:
    """A worker that lived owes its events; one that was hit, or unheard, does not."""
    history = read([*sent(Expected("a")), *ran("a", "w1", 11, 12)])
    left = Leftovers(states={"a": "SUCCESS"})
    assert len(judge(history, [], left, set(), [], []).events_missing) == 1
    kill = [Fault(FaultKind.KILL, "w1", 12.5)]
    assert not judge(history, kill, left, set(), [], []).events_due
    assert not judge(history, [], left, set(), [(11.5, 11.6)], []).events_due


def test_a_delayed_task_is_received_by_whoever_took_it_first() -> None:
    """The worker that runs it owes no word of that; somebody does, unless somebody was hit."""
    history = read([*sent(Expected("a", 10.5)), *ran("a", "w1", 11, 12)])
    left = Leftovers(states={"a": "SUCCESS"})
    rest = {("w1", "a", "task-started"), ("w1", "a", "task-succeeded")}
    assert len(judge(history, [], left, rest, [], []).events_missing) == 1
    assert not judge(history, [], left, {*rest, ("w2", "a", "task-received")}, [], []).failures
    kill = [Fault(FaultKind.KILL, "w2", 5.0)]
    assert not judge(history, kill, left, rest, [], []).failures
    assert judge(history, kill, left, set(), [], []).events_missing


def test_leaked_keys_are_a_finding() -> None:
    """An unknown key without a TTL is a finding."""
    records = [*sent(Expected("a")), *ran("a", "w1", 1, 2)]
    assert judged(records, left=Leftovers(leaked=["who"])).failures == {"keys leaked": 1}


def test_recovery_is_measured_from_the_kill() -> None:
    """The time from a SIGKILL to the next start of what it cut off."""
    records = [*sent(Expected("a")), *ran("a", "w1", 1, None), *ran("a", "w2", 9, 10)]
    found = judged(records, [Fault(FaultKind.KILL, "w1", 1.5)]).recovery
    assert (found.count, found.max_s) == (1, 7.5)


def test_a_sandbox_that_is_left_is_a_finding() -> None:
    """A container, or a mount of one that is gone."""
    records = [*sent(Expected("a")), *ran("a", "w1", 1, 2)]
    left = Leftovers(sandboxes=["c0ffee"])
    assert judged(records, left=left).failures == {"sandboxes left": 1}


def test_programs_are_added_to_the_same_load() -> None:
    """Each isolation in turn, as many as asked for; without them the load needs no engine."""
    load = works(3, "p", programs=50)
    programs = [work for work in (next(load) for _ in range(400)) if work.kind is Kind.PROGRAM]
    assert 90 < len(programs) < 180
    assert [work.isolation for work in programs[:4]] == ["container", "nested"] * 2
    assert Kind.PROGRAM not in {
        work.kind for work, _ in zip(works(3, "p"), range(400), strict=False)
    }


def test_a_seed_makes_one_plan_of_faults_and_one_load() -> None:
    """The same seed plans the same faults and the same works; each kind of fault comes."""
    assert plan(3, 50, 60.0) == plan(3, 50, 60.0)
    assert plan(3, 50, 60.0) != plan(4, 50, 60.0)
    assert {one.kind for one in plan(3, 5, 60.0)} == set(FaultKind)
    assert sum(one.kind is FaultKind.KILL for one in plan(3, 50, 60.0)) == 50
    first, second = works(3, "p"), works(3, "p")
    some = [next(first) for _ in range(200)]
    assert some == [next(second) for _ in range(200)]
    assert {work.kind for work in some} == set(Kind) - {Kind.PROGRAM}

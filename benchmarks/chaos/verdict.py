"""Judges a run by the ledger, the injected faults and the leftovers. No I/O."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.causes import ROUNDING_S, SETTLE_S, Causes
from benchmarks.chaos.records import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from benchmarks.chaos.executions import Execution, History
    from benchmarks.chaos.leftovers import Leftovers

#: Seconds within which a dead worker's claims should be back in their lists. Shown but not judged,
#: since it depends on the machine's load.
RETURN_S = 15.0
#: Examples kept per finding.
_EXAMPLES = 20


class Recovery(msgspec.Struct, frozen=True):
    """Statistics of a duration that starts at a SIGKILL, in seconds."""

    count: int = 0
    median_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0


class Verdict(msgspec.Struct, kw_only=True):
    """The result of a run; lists have the affected tasks.

    Attributes:
        accepted: tasks whose publication was confirmed.
        works: number of confirmed works by kind.
        executions: number of executions.
        faults: number of faults by kind.
        kills_at_work: SIGKILLs of workers that were running something.
        lost: accepted, never finished, and nowhere to be found.
        behind: number of tasks that never ran because they wait for a lost one.
        stuck: still in a queue or in ``unacked`` at the end.
        failed: a failure is stored, with the error.
        unstored: finished, but no result is stored.
        dead_letters: accepted and now dead letters.
        wrong: did not get each result they wait for exactly once.
        early: started before their eta.
        explained: repetitions by cause.
        unexplained: repetitions without a cause.
        events_due: executions whose events had to be received.
        events_missing: those of them with missing events.
        leaked: keys and index entries that should not exist.
        sandboxes_left: containers of workers that are gone, and what is left of them.
        unexpected_exits: workers that exited, or did not stop, without being hit.
        recovery: until a task that a killed worker was running runs again, including the wait
            for a free worker.
        returns: until the last claim of a killed worker was recovered.
        all_faults: every fault, in order.
    """

    accepted: int
    works: dict[str, int]
    executions: int
    faults: dict[str, int]
    kills_at_work: int
    lost: list[str]
    behind: int
    stuck: list[str]
    failed: list[str]
    unstored: list[str]
    dead_letters: list[str]
    wrong: list[str]
    early: list[str]
    explained: dict[str, int]
    unexplained: list[str]
    events_due: int
    events_missing: list[str]
    leaked: list[str]
    sandboxes_left: list[str]
    unexpected_exits: list[str]
    recovery: Recovery
    returns: Recovery
    all_faults: list[Fault]

    @property
    def failures(self) -> dict[str, int]:
        """Number of findings by name; empty: the run passed."""
        findings = {
            "lost": self.lost, "unexplained duplicates": self.unexplained, "early": self.early,
            "stuck": self.stuck, "failed": self.failed, "results missing": self.unstored,
            "dead letters": self.dead_letters,
            "wrong results": self.wrong, "events missing": self.events_missing,
            "keys leaked": self.leaked, "sandboxes left": self.sandboxes_left,
            "unexpected exits": self.unexpected_exits,
        }  # fmt: skip
        return {name: len(found) for name, found in findings.items() if found}


def judge(
    history: History,
    faults: Sequence[Fault],
    left: Leftovers,
    heard: Collection[tuple[str, str, str]],
    deaf: Sequence[tuple[float, float]],
    unexpected_exits: Sequence[str],
) -> Verdict:
    """Collect the findings."""
    causes = Causes(faults, history)
    explained: Counter[str] = Counter()
    unexplained: list[str] = []
    for runs in history.runs.values():
        for run, cause in causes.of_repetition(runs):
            if cause:
                explained[cause] += 1
            else:
                unexplained.append(described(runs, run))
    due = [run for run in history.executions if _events_due(run, causes, deaf)]
    received = {task for _, task, kind in heard if kind == "task-received"}
    lost, behind = _lost(history, left)
    return Verdict(
        accepted=len(history.accepted),
        works=dict(Counter(history.works[name].kind for name in history.confirmed)),
        executions=sum(len(runs) for runs in history.runs.values()),
        faults=dict(Counter(fault.kind.value for fault in faults)),
        kills_at_work=sum(f.kind is FaultKind.KILL and f.held > 0 for f in faults),
        lost=lost,
        behind=behind,
        stuck=sorted({*left.listed, *left.claimed}),
        failed=[f"{task}: {error}" for task, error in left.errors.items()],
        unstored=[
            f"{task} {left.states.get(task)}"
            for task in history.accepted
            if task in history.ended
            and task not in left.errors
            and left.states.get(task) != "SUCCESS"
        ],
        dead_letters=left.dead_letters,
        wrong=[run.start.task for run in history.executions if not _was_given_all(run, history)],
        early=[_early(run) for run in history.executions if _is_early(run, history)],
        explained=dict(explained),
        unexplained=unexplained,
        events_due=len(due),
        events_missing=[
            text
            for run in due
            if (
                text := _unheard(
                    run, heard, elsewhere=_received_elsewhere(run, received, causes, history, deaf)
                )
            )
        ],
        leaked=[*left.leaked, *left.index_only],
        sandboxes_left=left.sandboxes,
        unexpected_exits=list(unexpected_exits),
        recovery=recovery(history, faults),
        returns=measured(fault.back_s for fault in faults if fault.back_s is not None),
        all_faults=list(faults),
    )


def described(runs: Iterable[Execution], which: Execution) -> str:
    """The executions of a message as text; the one in question has a star."""
    parts = []
    for run in runs:
        end = f"{run.end.at:.3f}" if run.end else "…"
        star = "*" if run is which else ""
        parts.append(f"{star}{run.start.worker} {run.start.at:.3f}-{end}")
    return f"{which.start.task}/{which.start.attempt}: {', '.join(parts)}"


def _lost(history: History, left: Leftovers) -> tuple[list[str], int]:
    somewhere = {*left.listed, *left.claimed, *left.dead_letters, *left.errors}
    missing = [task for task in history.accepted if task not in history.ended]
    gone = [task for task in missing if task not in somewhere]
    waiting = {
        task
        for task in gone
        if any(one not in history.ended for one in history.expected[task].after)
    }
    return [task for task in gone if task not in waiting], len(waiting)


def _was_given_all(run: Execution, history: History) -> bool:
    if run.end is None or run.start.task not in history.expected:
        return True
    return sorted(run.end.got) == sorted(history.expected[run.start.task].after)


def _is_early(run: Execution, history: History) -> bool:
    eta = run.start.eta
    if eta is None and run.start.attempt == 0 and run.start.task in history.expected:
        eta = history.expected[run.start.task].eta
    return eta is not None and run.start.at < eta - ROUNDING_S


def _early(run: Execution) -> str:
    return f"{run.start.task}/{run.start.attempt} at {run.start.at:.3f} for {run.start.eta}"


def _events_due(run: Execution, causes: Causes, deaf: Sequence[tuple[float, float]]) -> bool:
    """Whether no fault hit the worker and the watcher was connected."""
    if run.end is None:
        return False
    begin, end = run.start.at - 1.0, run.end.at + SETTLE_S
    disturbed = [
        fault
        for fault in causes.hitting(run.start.worker, begin, end)
        if fault.kind is not FaultKind.TERM
    ]
    return not disturbed and not _nobody_listened(deaf, begin, end)


def _nobody_listened(deaf: Sequence[tuple[float, float]], begin: float, end: float) -> bool:
    """Whether the watcher was disconnected at some time between ``begin`` and ``end``."""
    return any(first <= end and last >= begin for first, last in deaf)


def _unheard(run: Execution, heard: Collection[tuple[str, str, str]], *, elsewhere: bool) -> str:
    assert run.end is not None
    kinds = ["task-started", "task-retried" if run.end.retry else "task-succeeded"]
    if not elsewhere:
        kinds.insert(0, "task-received")
    missing = [k for k in kinds if (run.start.worker, run.start.task, k) not in heard]
    return f"{run.start.task} on {run.start.worker}: {', '.join(missing)}" if missing else ""


def _received_elsewhere(
    run: Execution,
    received: Collection[str],
    causes: Causes,
    history: History,
    deaf: Sequence[tuple[float, float]],
) -> bool:
    """Whether another worker sent ``task-received``, or was hit before it could.

    For a delayed task the worker that claims it first sends the event, when the message arrives.
    """
    expected = history.expected.get(run.start.task)
    if run.start.attempt or expected is None or expected.eta is None:
        return False
    begin, end = history.works[history.work_of[run.start.task]].at, run.start.at
    return (
        run.start.task in received
        or causes.anybody_hit(begin, end)
        or _nobody_listened(deaf, begin, end)
    )


def recovery(history: History, faults: Iterable[Fault]) -> Recovery:
    """How long it took until tasks of killed workers ran elsewhere."""
    killed = {fault.worker: fault.begin for fault in faults if fault.kind is FaultKind.KILL}
    took = []
    for runs in history.runs.values():
        for run, following in pairwise(runs):
            if run.end is None and run.start.worker in killed:
                took.append(following.start.at - killed[run.start.worker])
    return measured(took)


def measured(seconds: Iterable[float]) -> Recovery:
    """Median, 99th percentile and maximum."""
    took = sorted(seconds)
    if not took:
        return Recovery()
    return Recovery(
        len(took),
        round(took[len(took) // 2], 2),
        round(took[min(len(took) - 1, int(len(took) * 0.99))], 2),
        round(took[-1], 2),
    )

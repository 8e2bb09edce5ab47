"""The judgement of a battle, from the ledger, the faults and what is left. No I/O."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.causes import ROUNDING_S, SETTLE_S, Causes
from benchmarks.chaos.records import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from benchmarks.chaos.executions import Book, Execution
    from benchmarks.chaos.leftovers import Leftovers

#: Seconds within which a dead worker's claims are back in their lists. Shown, and no finding: a
#: machine with more to do than it can decides over it.
RETURN_S = 15.0
#: Examples kept of each finding.
_EXAMPLES = 20


class Recovery(msgspec.Struct, frozen=True):
    """Seconds from a SIGKILL to something: how often it was measured, and how long it took."""

    count: int = 0
    median_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0


class Verdict(msgspec.Struct, kw_only=True):
    """What a battle came to.

    Attributes:
        accepted: tasks whose sending was confirmed.
        executions: runs of tasks.
        faults: how many of each kind.
        kills_at_work: SIGKILLs of workers that were running something.
        lost: accepted, never ended, and nowhere.
        behind: never ran because they wait for one of those.
        stuck: still in a queue or in ``unacked`` at the end.
        failed: were told to have failed, and by what.
        unstored: ended, but no result is stored.
        buried: accepted and now dead letters.
        wrong: were not given the results they wait for, each once.
        early: started before their eta.
        explained: repetitions by cause.
        unexplained: repetitions without one.
        events_due: executions whose events had to be heard.
        events_missing: those of them that had some missing.
        leaked: keys, and rows of the index, that nobody accounts for.
        deserters: workers that ended, or would not end, without being hit.
        recovery: until what a killed worker was running runs again; waiting for a free worker
            is part of it.
        returns: until the last claim of a killed worker is nobody's or somebody else's.
        storm: every fault.
    """

    accepted: int
    executions: int
    faults: dict[str, int]
    kills_at_work: int
    lost: list[str]
    behind: int
    stuck: list[str]
    failed: list[str]
    unstored: list[str]
    buried: list[str]
    wrong: list[str]
    early: list[str]
    explained: dict[str, int]
    unexplained: list[str]
    events_due: int
    events_missing: list[str]
    leaked: list[str]
    deserters: list[str]
    recovery: Recovery
    returns: Recovery
    storm: list[Fault]

    @property
    def failures(self) -> dict[str, int]:
        """Findings that must not be, by name; empty: the battle is won."""
        findings = {
            "lost": self.lost, "unexplained duplicates": self.unexplained, "early": self.early,
            "stuck": self.stuck, "failed": self.failed, "results missing": self.unstored,
            "dead letters": self.buried,
            "wrong results": self.wrong, "events missing": self.events_missing,
            "keys leaked": self.leaked, "deserters": self.deserters,
        }  # fmt: skip
        return {name: len(found) for name, found in findings.items() if found}


def judge(
    book: Book,
    faults: Sequence[Fault],
    left: Leftovers,
    heard: Collection[tuple[str, str, str]],
    deaf: Sequence[tuple[float, float]],
    deserters: Sequence[str],
) -> Verdict:
    """Put together what was found."""
    causes = Causes(faults, book)
    explained: Counter[str] = Counter()
    unexplained: list[str] = []
    for runs in book.runs.values():
        for run, cause in causes.of_repetition(runs):
            if cause:
                explained[cause] += 1
            else:
                unexplained.append(told(runs, run))
    due = [run for run in book.executions if _tells(run, causes, deaf)]
    received = {task for _, task, kind in heard if kind == "task-received"}
    lost, behind = _lost(book, left)
    return Verdict(
        accepted=len(book.accepted),
        executions=sum(len(runs) for runs in book.runs.values()),
        faults=dict(Counter(fault.kind.value for fault in faults)),
        kills_at_work=sum(f.kind is FaultKind.KILL and f.held > 0 for f in faults),
        lost=lost,
        behind=behind,
        stuck=sorted({*left.listed, *left.claimed}),
        failed=[f"{task}: {error}" for task, error in left.errors.items()],
        unstored=[
            f"{task} {left.states.get(task)}"
            for task in book.accepted
            if task in book.ended and task not in left.errors and left.states.get(task) != "SUCCESS"
        ],
        buried=left.buried,
        wrong=[run.start.task for run in book.executions if not _was_given_all(run, book)],
        early=[_early(run) for run in book.executions if _is_early(run, book)],
        explained=dict(explained),
        unexplained=unexplained,
        events_due=len(due),
        events_missing=[
            text
            for run in due
            if (
                text := _unheard(
                    run, heard, told_before=_told_before(run, received, causes, book, deaf)
                )
            )
        ],
        leaked=[*left.leaked, *left.index_only],
        deserters=list(deserters),
        recovery=recovery(book, faults),
        returns=measured(fault.back_s for fault in faults if fault.back_s is not None),
        storm=list(faults),
    )


def told(runs: Iterable[Execution], which: Execution) -> str:
    """The executions of a message, for people; the one in question has a star."""
    parts = []
    for run in runs:
        end = f"{run.end.at:.3f}" if run.end else "…"
        star = "*" if run is which else ""
        parts.append(f"{star}{run.start.worker} {run.start.at:.3f}-{end}")
    return f"{which.start.task}/{which.start.attempt}: {', '.join(parts)}"


def _lost(book: Book, left: Leftovers) -> tuple[list[str], int]:
    somewhere = {*left.listed, *left.claimed, *left.buried, *left.errors}
    missing = [task for task in book.accepted if task not in book.ended]
    gone = [task for task in missing if task not in somewhere]
    waiting = {
        task for task in gone if any(one not in book.ended for one in book.expected[task].after)
    }
    return [task for task in gone if task not in waiting], len(waiting)


def _was_given_all(run: Execution, book: Book) -> bool:
    if run.end is None or run.start.task not in book.expected:
        return True
    return sorted(run.end.got) == sorted(book.expected[run.start.task].after)


def _is_early(run: Execution, book: Book) -> bool:
    eta = run.start.eta
    if eta is None and run.start.attempt == 0 and run.start.task in book.expected:
        eta = book.expected[run.start.task].eta
    return eta is not None and run.start.at < eta - ROUNDING_S


def _early(run: Execution) -> str:
    return f"{run.start.task}/{run.start.attempt} at {run.start.at:.3f} for {run.start.eta}"


def _tells(run: Execution, causes: Causes, deaf: Sequence[tuple[float, float]]) -> bool:
    """Whether the worker lived undisturbed and somebody listened."""
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
    """Whether at some time between ``begin`` and ``end`` nothing could be heard."""
    return any(first <= end and last >= begin for first, last in deaf)


def _unheard(run: Execution, heard: Collection[tuple[str, str, str]], *, told_before: bool) -> str:
    assert run.end is not None
    kinds = ["task-started", "task-retried" if run.end.retry else "task-succeeded"]
    if not told_before:
        kinds.insert(0, "task-received")
    missing = [k for k in kinds if (run.start.worker, run.start.task, k) not in heard]
    return f"{run.start.task} on {run.start.worker}: {', '.join(missing)}" if missing else ""


def _told_before(
    run: Execution,
    received: Collection[str],
    causes: Causes,
    book: Book,
    deaf: Sequence[tuple[float, float]],
) -> bool:
    """Whether ``task-received`` was for another worker to say: said, or lost with that worker.

    Of a delayed task it is said by whoever took it first, when it came.
    """
    expected = book.expected.get(run.start.task)
    if run.start.attempt or expected is None or expected.eta is None:
        return False
    begin, end = book.works[book.work_of[run.start.task]].at, run.start.at
    return (
        run.start.task in received
        or causes.anybody_hit(begin, end)
        or _nobody_listened(deaf, begin, end)
    )


def recovery(book: Book, faults: Iterable[Fault]) -> Recovery:
    """How long killed workers' tasks took to run elsewhere."""
    killed = {fault.worker: fault.begin for fault in faults if fault.kind is FaultKind.KILL}
    took = []
    for runs in book.runs.values():
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

"""The history of each message as the ledger has it: all its executions, in order. No I/O."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.chaos.records import Accepted, Ended, Expected, Offered, Started

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.chaos.records import Record


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of one message.

    Attributes:
        start: the record of its start.
        end: the record of its end; None if there is none.
    """

    start: Started
    end: Ended | None

    @property
    def key(self) -> tuple[str, int]:
        """The message: task id and attempt."""
        return self.start.task, self.start.attempt


@dataclass
class History:
    """The records of the ledger, by message and by work.

    Attributes:
        works: what producers meant to send, by name.
        confirmed: names of the works that were accepted.
        expected: the tasks of all works, by id.
        work_of: the work of each task id.
        runs: executions by message, each list in order of start.
        ended: ids of tasks that finished.
    """

    works: dict[str, Offered] = field(default_factory=dict)
    confirmed: dict[str, float] = field(default_factory=dict)
    expected: dict[str, Expected] = field(default_factory=dict)
    work_of: dict[str, str] = field(default_factory=dict)
    runs: dict[tuple[str, int], list[Execution]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    @property
    def accepted(self) -> list[str]:
        """Ids of all accepted tasks."""
        return [task.id for name in self.confirmed for task in self.works[name].tasks]

    @property
    def executions(self) -> Iterable[Execution]:
        """Every execution of every message."""
        for runs in self.runs.values():
            yield from runs


def read(records: Iterable[Record]) -> History:
    """Build the history from records."""
    history = History()
    started: dict[str, Started] = {}
    ended: dict[str, Ended] = {}
    for record in records:
        if isinstance(record, Offered):
            history.works[record.work] = record
            for task in record.tasks:
                history.expected[task.id] = task
                history.work_of[task.id] = record.work
        elif isinstance(record, Accepted):
            history.confirmed[record.work] = record.at
        elif isinstance(record, Started):
            started[record.run] = record
        elif isinstance(record, Ended):
            ended[record.run] = record
    runs: defaultdict[tuple[str, int], list[Execution]] = defaultdict(list)
    for run, start in sorted(started.items(), key=lambda item: item[1].at):
        end = ended.get(run)
        runs[start.task, start.attempt].append(Execution(start, end))
        if end is not None and not end.retry:
            history.ended.add(start.task)
    history.runs = dict(runs)
    return history

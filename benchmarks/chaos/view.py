"""A live view of the ledger: which workers are up, what runs where, which tasks are open."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

from benchmarks.chaos.records import Accepted, Ended, Offered, Ready, Record, Refused, Started

if TYPE_CHECKING:
    from benchmarks.chaos.ledger import Ledger


class View:
    """Follows the ledger.

    Attributes:
        records: all of them, in order.
        ready: workers that have started.
        pids: their processes.
        running: unfinished executions by worker.
        open: accepted task ids that have not finished.
        accepted: number of confirmed works.
        ended: task ids that have finished.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.ready: set[str] = set()
        self.pids: set[int] = set()
        self.running: dict[str, set[str]] = defaultdict(set)
        self.open: set[str] = set()
        self.accepted = 0
        self.refused = 0
        self.ended: set[str] = set()
        self._offered: dict[str, Offered] = {}
        self._runs: dict[str, Started] = {}
        self.news = asyncio.Event()

    async def follow(self, ledger: Ledger) -> None:
        """Read until cancelled."""
        async for records in ledger.tail():
            for record in records:
                self._add(record)
            if records:
                self.news.set()

    def _add(self, record: Record) -> None:
        self.records.append(record)
        if isinstance(record, Started):
            self._runs[record.run] = record
            self.running[record.worker].add(record.run)
        elif isinstance(record, Ended):
            started = self._runs[record.run]
            self.running[started.worker].discard(record.run)
            if not record.retry:
                self.ended.add(started.task)
                self.open.discard(started.task)
        elif isinstance(record, Offered):
            self._offered[record.work] = record
        elif isinstance(record, Ready):
            self.ready.add(record.worker)
            self.pids.add(record.pid)
        elif isinstance(record, Accepted):
            self.accepted += 1
            ids = {task.id for task in self._offered[record.work].tasks}
            self.open |= ids - self.ended
        elif isinstance(record, Refused):
            self.refused += 1

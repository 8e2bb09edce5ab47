"""What became of a cell: lost, run twice, failed, and how soon everybody was back."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.outages.cells import Side
from benchmarks.chaos.outages.runs import Began, Ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.chaos.outages.cells import Cell
    from benchmarks.chaos.outages.runs import Record

#: Seconds after the server in which work must go on.
BACK_S = 5.0


class Seen(msgspec.Struct, kw_only=True):
    """Everything that is known of a cell when it is over.

    Attributes:
        restored_at: when the server served again, seconds since the epoch.
        accepted: evaluations by the time they were accepted.
        refused: refusals by HTTP status, 0 for none.
        records: the ledger.
        statuses: stored status of each evaluation accepted, empty for none.
        left: messages and claims that are still in the server.
        dead_letters: messages that were given up.
        ended: processes that ended, or would not.
        running: evaluations that ran when the outage began.
    """

    restored_at: float
    accepted: Mapping[str, float]
    refused: Mapping[int, int]
    records: Sequence[Record]
    statuses: Mapping[str, str]
    left: int
    dead_letters: int
    ended: Sequence[str]
    running: int


class Verdict(msgspec.Struct, kw_only=True):
    """A cell's findings.

    Attributes:
        cell: its name.
        accepted: evaluations that were accepted.
        refused: refusals by HTTP status.
        running: evaluations that ran when the outage began.
        lost: accepted and without an end.
        twice: begun more than once, although no worker died.
        failed: ended otherwise than well.
        left: messages and claims that are still there, dead letters included.
        ended: processes that ended.
        api_back_s: from the server's return to the first submission accepted, where the api was
            affected.
        worker_back_s: the same to the first evaluation begun.
    """

    cell: str
    accepted: int
    refused: dict[int, int]
    running: int
    lost: list[str]
    twice: list[str]
    failed: list[str]
    left: int
    ended: list[str]
    api_back_s: float | None
    worker_back_s: float | None

    @property
    def faults(self) -> list[str]:
        """What must not be."""
        counts = {name: len(getattr(self, name)) for name in ("lost", "twice", "failed", "ended")}
        found = [f"{count} {name}" for name, count in counts.items() if count]
        if self.left:
            found.append(f"{self.left} left")
        if server_errors := sum(n for status, n in self.refused.items() if status not in (0, 503)):
            found.append(f"{server_errors} refused with neither 503 nor silence")
        return found

    @property
    def late(self) -> list[str]:
        """What took longer than it may; a busy machine decides over it as well."""
        times = {"api": self.api_back_s, "worker": self.worker_back_s}
        return [
            f"{side} back after {seconds:.1f} s"
            for side, seconds in times.items()
            if seconds is not None and seconds > BACK_S
        ]


def judge(cell: Cell, seen: Seen) -> Verdict:
    """Find what is wrong with it."""
    runs = Counter(record.eval_id for record in seen.records if isinstance(record, Began))
    done = {record.eval_id for record in seen.records if isinstance(record, Ended)}
    good = {eval_id for eval_id, status in seen.statuses.items() if status == "SUCCESS"}
    ends = {
        eval_id for eval_id, status in seen.statuses.items() if status in ("SUCCESS", "FAILURE")
    }
    begun = [record.at for record in seen.records if isinstance(record, Began)]
    return Verdict(
        cell=cell.name,
        accepted=len(seen.accepted),
        refused=dict(seen.refused),
        running=seen.running,
        lost=sorted(set(seen.accepted) - (ends & done)),
        twice=sorted(eval_id for eval_id, count in runs.items() if count > 1),
        failed=sorted(ends - good),
        left=seen.left + seen.dead_letters,
        ended=list(seen.ended),
        api_back_s=_after(seen, list(seen.accepted.values()))
        if cell.side is not Side.WORKER
        else None,
        worker_back_s=_after(seen, begun) if cell.side is not Side.API else None,
    )


def _after(seen: Seen, times: Sequence[float]) -> float | None:
    later = [at - seen.restored_at for at in times if at >= seen.restored_at]
    return round(min(later), 2) if later else None

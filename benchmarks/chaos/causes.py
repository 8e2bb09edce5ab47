"""Why a message ran more than once: every repetition must be explained by a fault. No I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from benchmarks.chaos.records import FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.chaos.executions import Execution, History
    from benchmarks.chaos.records import Fault

#: Seconds between the end of a task's function and the server's confirmation of its settlement.
SETTLE_S = 2.0
#: Seconds a fault has effects after it is over: reconnecting, and finding out what was recovered.
_FELT_S = 6.0
#: Explains nothing: a worker that gets SIGTERM lets its tasks finish.
_HARMLESS = frozenset({FaultKind.TERM})
#: Rounding differences between clock readings on one machine, seconds.
ROUNDING_S = 0.001


def felt_until(fault: Fault) -> float:
    """When a fault stopped affecting its worker."""
    if fault.kind in (FaultKind.KILL, FaultKind.TERM_TWICE) or fault.end is None:
        return math.inf
    return fault.end + _FELT_S


class Causes:
    """Faults, looked up by worker and time."""

    def __init__(self, faults: Iterable[Fault], history: History) -> None:
        self._faults: dict[str, list[Fault]] = {}
        for fault in faults:
            self._faults.setdefault(fault.worker, []).append(fault)
        self._history = history

    def hitting(self, worker: str, begin: float, end: float) -> list[Fault]:
        """Faults that affected a worker at some time between ``begin`` and ``end``."""
        felt = [*self._faults.get(worker, ()), *self._faults.get("", ())]
        return [fault for fault in felt if fault.begin <= end and felt_until(fault) >= begin]

    def anybody_hit(self, begin: float, end: float) -> bool:
        """Whether any worker was killed or affected by a fault between ``begin`` and ``end``."""
        return any(
            fault.kind not in _HARMLESS
            and fault.begin <= end
            and (fault.begin if math.isinf(felt_until(fault)) else felt_until(fault)) >= begin
            for faults in self._faults.values()
            for fault in faults
        )

    def of_repetition(self, runs: Sequence[Execution]) -> list[tuple[Execution, str]]:
        """Each execution after the first with what explains it; an empty text if nothing does.

        An execution explains one later one: its worker or link was hit before its settlement can
        have reached the server.
        """
        unused: list[Execution] = []
        found = []
        for at, run in enumerate(runs):
            if at:
                cause, by = self._explain(unused, run)
                if by is not None:
                    unused.remove(by)
                found.append((run, cause or self._sent_twice(run)))
            unused.append(run)
        return found

    def _explain(
        self, earlier: Sequence[Execution], run: Execution
    ) -> tuple[str, Execution | None]:
        for one in reversed(earlier):
            done = math.inf if one.end is None else one.end.at + SETTLE_S
            hit = self._grave(self.hitting(one.start.worker, one.start.at, done), run)
            if hit:
                return hit, one
        # The other way round: this worker claimed the message first, was cut off or stopped while
        # another ran it, and then ran it as well.
        felt = self.hitting(run.start.worker, run.start.at, run.start.at)
        own = self._grave([fault for fault in felt if fault.end is not None], run)
        return (f"{own}, went on", earlier[-1]) if own and earlier else ("", None)

    @staticmethod
    def _grave(faults: Iterable[Fault], run: Execution) -> str:
        """The most severe fault before a repetition that can explain it."""
        kinds = {fault.kind for fault in faults if fault.begin <= run.start.at}
        return next((kind.value for kind in FaultKind if kind in kinds - _HARMLESS), "")

    def _sent_twice(self, run: Execution) -> str:
        """Repetitions caused by a stock sender of the message rather than by its worker."""
        task, attempt = run.key
        before = [(one, 0) for one in self._history.expected[task].after]
        if attempt:
            before.append((task, attempt - 1))
        for key in before:
            runs = self._history.runs.get(key, [])
            if len(runs) > 1 and any(one.start.worker.startswith("stock") for one in runs):
                return "stock sent it again"
        offer = self._history.works[self._history.work_of[task]]
        confirmed = self._history.confirmed.get(offer.work, math.inf)
        if offer.producer.startswith("stock") and any(
            fault.begin <= confirmed and felt_until(fault) >= offer.at
            for fault in self._faults.get("", ())
        ):
            return "stock producer sent it again"
        return ""

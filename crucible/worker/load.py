"""What a worker says of its load in each heartbeat: slots, claims, and how long tasks take."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.liveness import BUSY, CLAIMED, MEMORY_MB, RAN, SERVICE_MS, SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Sized

    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.wire.decode import Message
    from crucible.worker.run import Run, TurnedAway
    from crucible.worker.slots import Slots

_STATM, _PAGE_BYTES = Path("/proc/self/statm"), os.sysconf("SC_PAGE_SIZE")
#: Weight of the newest run in the average: about the last twenty count.
_NEWEST = 0.05


class WorkerLoad:
    """Averages how long tasks take, as a hook; read by the heartbeat.

    Args:
        slots: run the tasks.
        unsettled: the claims of the worker.
        clock: seconds, as ``Run.started_s``.
    """

    def __init__(
        self, slots: Slots, unsettled: Sized, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slots = slots
        self._unsettled = unsettled
        self._clock = clock
        self._service_s: float | None = None
        self._ran = 0

    def gauges(self) -> dict[str, int]:
        """For the heartbeat; the service time only once a task has ended."""
        found = {
            SLOTS: self._slots.size,
            BUSY: len(self._slots.running),
            CLAIMED: len(self._unsettled),
            RAN: self._ran,
            MEMORY_MB: resident_mb(),
        }
        if self._service_s is not None:
            # At least one: zero would say that any number of tasks take no time.
            found[SERVICE_MS] = max(1, round(self._service_s * 1000))
        return found

    def received(self, run: Run) -> None:
        """Nothing."""

    def started(self, run: Run) -> None:
        """Nothing: the run itself knows when it was started."""

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """Count its time."""
        self._ended(runtime_s)

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """Count its time, if it was started."""
        if run.started_at:
            self._ended(self._clock() - run.started_s)

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """Count its time: the attempt took a slot like any other."""
        self.failed(run, error, traceback)

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """Nothing: it took no slot, or was stopped at no time of its own."""

    def updated(self, message: Message, state: str, meta: Any) -> None:
        """Nothing."""

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Nothing."""

    def _ended(self, runtime_s: float) -> None:
        self._ran += 1
        if self._service_s is None:
            self._service_s = max(0.0, runtime_s)
        else:
            self._service_s += _NEWEST * (max(0.0, runtime_s) - self._service_s)


def resident_mb() -> int:
    """Resident memory of this process, MiB; 0 where the system does not say."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * _PAGE_BYTES >> 20

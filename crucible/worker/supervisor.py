"""Keeping a worker's loops alive, and noticing when one stops making progress."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from crucible.errors import BrokerUnavailable, CrucibleError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crucible.broker.outage import Outage

    #: A loop runs until cancelled and calls its argument whenever it has made progress.
    Loop = Callable[[Callable[[], None]], Awaitable[None]]

logger = logging.getLogger(__name__)

#: Seconds before a loop that failed is run again: for the first failure in a row, the second, …
_PAUSES_S = (0.1, 0.2, 0.5, 1.0)
#: Failures in a row, other than the server's absence, after which the worker gives up.
_MAX_FAILURES = 10
#: Seconds a cancelled loop has to end before it is cancelled again, and how often that is done:
#: what it awaits may swallow a cancellation (``asyncio.wait_for`` before Python 3.12 does).
_CANCEL_S, _CANCELS = 1.0, 5
#: Seconds without a failure after which earlier ones no longer count.
_FORGIVEN_S = 30.0


class WorkerFailed(CrucibleError):  # noqa: N818 - a state of the worker
    """A loop of the worker could not be kept running; the process should end and be restarted."""


@dataclass(slots=True, eq=False)
class _Supervised:
    name: str
    loop: Loop
    stall_s: float | None
    last_beat: float
    worker: asyncio.Task[None] | None = None

    def stalled(self, now: float) -> bool:
        return self.stall_s is not None and now - self.last_beat > self.stall_s


class Supervisor:
    """Runs loops, each again when it fails, and restarts one that makes no progress.

    Args:
        outage: is notified of loops that failed since the queue server is away.

    An async context manager; leaving cancels the loops, the last started first.
    """

    def __init__(self, outage: Outage) -> None:
        self._outage = outage
        self._loops: list[_Supervised] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._watchdog: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.restarts: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        self._watchdog = asyncio.create_task(self._watch(), name="crucible-watchdog")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*reversed(self._keepers)]
        if self._watchdog is not None:
            tasks.insert(0, self._watchdog)
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])
        if not self._failure.cancel():
            self._failure.exception()  # or asyncio would log that it was never retrieved

    def start(self, name: str, loop: Loop, *, stall_s: float | None) -> None:
        """Keep ``loop`` running.

        Args:
            name: for the log and ``stop``.
            loop: runs until cancelled.
            stall_s: without a beat for so many seconds it is restarted; None: never.
        """
        supervised = _Supervised(name, loop, stall_s, self._now())
        self._loops.append(supervised)
        self._keepers.append(asyncio.create_task(self._keep(supervised), name=f"crucible-{name}"))

    async def stop(self, name: str) -> None:
        """Cancel one loop and wait for its end."""
        for at, supervised in enumerate(self._loops):
            if supervised.name == name:
                del self._loops[at]
                keeper = self._keepers.pop(at)
                keeper.cancel()
                await asyncio.wait([keeper])
                return

    async def failed(self) -> None:
        """Wait for a loop that cannot be kept alive.

        Raises:
            WorkerFailed: when that happens.
        """
        await asyncio.shield(self._failure)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _keep(self, supervised: _Supervised) -> None:
        failures = 0
        while True:
            began = supervised.last_beat = self._now()
            task = asyncio.ensure_future(self._guard(supervised))
            supervised.worker = task
            try:
                await asyncio.wait([task])
            finally:
                await _cancel(task)
                # Retrieved here, since a keeper that is cancelled gets no further.
                error = task.exception() if task.done() and not task.cancelled() else None
            if self._now() - began > _FORGIVEN_S:
                failures = 0
            failures += 1
            self._report(supervised, error, failures)
            self.restarts[supervised.name] = self.restarts.get(supervised.name, 0) + 1
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S)) - 1])

    async def _guard(self, supervised: _Supervised) -> None:
        def beat() -> None:
            supervised.last_beat = self._now()

        await supervised.loop(beat)

    def _report(self, supervised: _Supervised, error: BaseException | None, failures: int) -> None:
        if isinstance(error, BrokerUnavailable):
            self._outage.failed(error)  # retried for as long as it takes
            return
        if error is not None:
            logger.error("%s failed; restarting it", supervised.name, exc_info=error)
        else:
            logger.error("%s ended; restarting it", supervised.name)
        if failures >= _MAX_FAILURES and not self._failure.done():
            self._failure.set_exception(WorkerFailed(f"{supervised.name} cannot be kept running"))

    async def _watch(self) -> None:
        """Cancel loops that make no progress; their keepers restart them."""
        before = self._now()
        while True:
            await asyncio.sleep(1.0)
            now = self._now()
            # The whole process was suspended, or its event loop blocked: no fault of these loops.
            asleep = max(0.0, now - before - 1.0)
            before = now
            for supervised in self._loops:
                if asleep > 1.0:
                    supervised.last_beat = now
                elif supervised.stalled(now) and supervised.worker is not None:
                    logger.error("%s makes no progress; restarting it", supervised.name)
                    supervised.worker.cancel()


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel a loop until it has ended, a bounded number of times."""
    for _ in range(_CANCELS):
        if task.done():
            return
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_S)
    if not task.done():
        logger.error("%s does not end", task.get_name())

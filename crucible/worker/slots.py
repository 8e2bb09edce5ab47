"""Slots: long-lived coroutines that run messages one after the other, as many at once as slots.

A message costs no asyncio task of its own. Slots take from one queue in memory, in the order the
messages were claimed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from crucible.worker.execution.cancellation import stop_run
from crucible.worker.recent import WINDOW_S, RecentEnds
from crucible.worker.run import Stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from crucible.worker.run import Run

    #: Takes one run to its settlement; it must not raise but to end the slot.
    Process = Callable[[Run], Awaitable[None]]

logger = logging.getLogger(__name__)

#: A slot whose messages never wait lets others have the loop after this many seconds.
_TURN_S = 0.002
#: Messages are claimed ahead only while runs take less than this many seconds on average.
_AHEAD_S = 0.01
#: ... and at most this many.
_MAX_AHEAD = 500
#: Seconds that what was claimed ahead may wait before it is looked at whether it goes back.
_GRACE_S = 0.01
#: Seconds in which what was claimed ahead has started here, or goes back to be started elsewhere.
_HELD_S = 0.042
#: Messages per slot that may wait for a rate limit, as many as stock prefetches for a process.
_WITHHELD = 4
#: Seconds a cancelled slot has to end before it is cancelled again, and how often that is done.
_CANCEL_S, _CANCELS = 1.0, 3
#: Weight of the newest run in the average run time.
_NEWEST = 0.05


class Slots:
    """Runs messages ``size`` at once, while it is ``serving``.

    Args:
        size: how many run at once.
        clock: seconds, only forward.

    Attributes:
        running: what runs now.
        backlog: the last claim found as many messages as it asked for. Only then are messages
            claimed ahead: what is left of a short list is for the idle slots of other workers.
    """

    def __init__(self, size: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._size = size
        self._clock = clock
        self._ends = RecentEnds()
        self.backlog = False
        self._process: Process | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Slots whose messages were abandoned, until they end.
        self._abandoned: set[asyncio.Task[None]] = set()
        self._waiting: deque[Run] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._changed = asyncio.Event()
        self._average_s = 1.0
        self._withheld = 0
        self.running: set[Run] = set()

    @asynccontextmanager
    async def serving(self, process: Process) -> AsyncIterator[None]:
        """Run what is offered through ``process``; leaving cancels what still runs."""
        self._process = process
        self._fill()
        try:
            yield
        finally:
            await self._close()

    async def _close(self) -> None:
        self._size = 0
        for run in self.running:
            run.stop = run.stop or Stop.CLOSED
        slots: set[asyncio.Task[None]] = self._tasks | self._abandoned
        for _again in range(_CANCELS):
            if not slots:
                return
            for slot in slots:
                slot.cancel()
            slots = (await asyncio.wait(slots, timeout=_CANCEL_S))[1]
        if slots:
            logger.error("%d tasks do not end", len(slots))

    @property
    def size(self) -> int:
        """How many messages run at once."""
        return self._size

    def resize(self, size: int) -> None:
        """Run ``size`` at once from now on; running ones are left to end."""
        self._size = size
        self._fill()
        while self._idle:
            self._wake()
        self._changed.set()

    def _fill(self) -> None:
        while self._process is not None and len(self._tasks) < self._size:
            task = asyncio.create_task(self._slot(self._process), name="crucible-slot")
            self._tasks.add(task)
            task.add_done_callback(self._slot_ended)

    def _slot_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._abandoned.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a slot ended with an error; another takes its place", exc_info=error)
        # A run that is stopped outside its task's function ends its slot.
        self._fill()

    @property
    def room(self) -> int:
        """How many more messages may be claimed now."""
        if self._withheld >= self._size * _WITHHELD:
            return 0
        ahead = self._ahead()
        if ahead and len(self._waiting) * 2 > ahead:
            return 0  # claim again when half of what was claimed ahead is used up
        return max(0, self._size + ahead - len(self.running) - len(self._waiting))

    def _ahead(self) -> int:
        """How many messages the slots should have before they can start them.

        What ended within the window of ``RecentEnds``, so that nothing waits much longer than that
        while runs go on as they did. The average alone would be that of a burst long past.
        """
        if not self.backlog or self._average_s >= _AHEAD_S:
            return 0
        return min(_MAX_AHEAD, self._ends.count(self._clock()))

    def withhold(self, count: int) -> None:
        """So many runs wait for a rate limit; with too many, there is no room for more claims."""
        self._withheld = count
        self._changed.set()

    async def wait_for_room(self) -> None:
        """Return when ``room`` may have grown."""
        self._changed.clear()
        if self.room == 0:
            await self._changed.wait()

    @property
    def busy(self) -> bool:
        """Anything runs or waits to run."""
        return bool(self.running or self._waiting)

    async def wait_until_idle(self) -> None:
        """Return when nothing runs and nothing waits to."""
        while self.busy:
            self._changed.clear()
            await self._changed.wait()

    @property
    def holds_waiting(self) -> bool:
        """Something was claimed that no slot has started."""
        return bool(self._waiting)

    def offer(self, runs: Iterable[Run]) -> None:
        """Queue messages for the slots."""
        now = self._clock()
        for run in runs:
            run.offered_at = now
            self._waiting.append(run)
        for _ in range(min(len(self._waiting), len(self._idle))):
            self._wake()

    def take_waiting(self) -> list[Run]:
        """Take back everything that no slot has started, oldest first."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self._changed.set()
        return waiting

    def take_excess(self) -> list[Run]:
        """Take back what would not start within ``_HELD_S`` at the rate of late, oldest first.

        So nothing is held once no run has ended for ``recent.WINDOW_S`` seconds. A rate that
        varies takes nothing back, for that is twice such a time. What was
        executed before stays: it waited for its rate limit here, or another slot let go of it.
        """
        waiting, now = self._waiting, self._clock()
        held_s = now - waiting[0].offered_at if waiting else 0.0
        if held_s < _GRACE_S:
            return []
        starting = self._ends.count(now) * max(0.0, _HELD_S - held_s) / WINDOW_S
        excess = len(waiting) - int(starting)
        if excess <= 0:
            return []
        taken = [run for run in waiting if run.message is None and run.stop is None][-excess:]
        gone = set(taken)
        kept = [run for run in waiting if run not in gone]
        waiting.clear()
        waiting.extend(kept)
        return taken

    def requeue_running(self) -> None:
        """Stop everything that runs; its messages return to their lists.

        What runs in a thread cannot be stopped, and must not be run elsewhere beside it: it keeps
        its claim, which other workers recover once this process is gone.
        """
        for run in list(self.running):
            if not run.threaded:
                stop_run(run, Stop.REQUEUED)

    def _abandon(self, run: Run) -> None:
        """A run does not react to being stopped: settle it in another slot, by why it was stopped.

        The new run has the claim; ``ABANDONED`` keeps the old one from settling it too.
        """
        slot = run.runner
        if slot is None:
            return
        logger.error("a task does not react to being stopped: %s", run.claim.field)
        self._waiting.appendleft(replace(run, runner=None))
        run.runner, run.stop = None, Stop.ABANDONED
        self.running.discard(run)
        self._tasks.discard(slot)
        self._abandoned.add(slot)
        slot.cancel()
        self._fill()
        if self._idle:
            self._wake()

    def _wake(self) -> None:
        idle = self._idle.popleft()
        if not idle.done():
            idle.set_result(None)

    def _superfluous(self, slot: asyncio.Task[None] | None) -> bool:
        """Whether a slot is one too many; if so it is not counted any more, or all would leave."""
        if len(self._tasks) <= self._size or slot is None:
            return False
        self._tasks.discard(slot)
        return True

    async def _slot(self, process: Process) -> None:
        loop = asyncio.get_running_loop()
        waiting, running, changed = self._waiting, self.running, self._changed
        runner: asyncio.Task[None] | None = asyncio.current_task()
        assert runner is not None
        abandon = self._abandon
        clock, ends = self._clock, self._ends
        turn_ends = clock() + _TURN_S
        while not self._superfluous(runner):
            if not waiting:
                idle = loop.create_future()
                self._idle.append(idle)
                await idle
                turn_ends = clock() + _TURN_S
                continue
            run = waiting.popleft()
            run.runner, run.abandon = runner, abandon
            running.add(run)
            started = clock()
            try:
                await process(run)
            finally:
                run.runner = None
                running.discard(run)
                changed.set()
                ended = clock()
                ends.add(ended)
                self._average_s += _NEWEST * (ended - started - self._average_s)
            if ended > turn_ends:
                await asyncio.sleep(0)
                turn_ends = clock() + _TURN_S

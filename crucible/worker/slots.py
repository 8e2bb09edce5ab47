"""Slots: long-lived coroutines that run messages one after the other, as many at once as slots.

A message costs no asyncio task of its own. Slots take from one queue in memory, in the order the
messages were claimed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from crucible.worker.hooks import Stop, stop_run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from crucible.worker.hooks import Run

logger = logging.getLogger(__name__)

#: A slot whose messages never wait lets others have the loop after this many seconds.
_TURN_S = 0.002
#: Messages claimed ahead are at most what the slots end within this many seconds.
_AHEAD_S = 0.01
#: ... and at most this many.
_MAX_AHEAD = 500
#: Messages a slot may have waiting for a rate limit, as many as stock prefetches for a process.
_WITHHELD = 4
#: Weight of the newest run in the average run time.
_NEWEST = 0.05


class Slots:
    """Runs messages ``size`` at once.

    An async context manager; leaving cancels what still runs.

    Args:
        perform: runs one message; it must not raise but to end the slot.
        size: how many run at once.
    """

    def __init__(self, perform: Callable[[Run], Awaitable[None]], size: int) -> None:
        self._perform = perform
        self._size = size
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[Run] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._changed = asyncio.Event()
        self._average_s = 1.0
        self._withheld = 0
        self.running: set[Run] = set()

    async def __aenter__(self) -> Self:
        self._fill()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._size = 0
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
        while len(self._tasks) < self._size:
            task = asyncio.create_task(self._slot(), name="crucible-slot")
            self._tasks.add(task)
            task.add_done_callback(self._slot_ended)

    def _slot_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a slot ended with an error; another takes its place", exc_info=error)
        # A message that is stopped on its way to or from its task takes the slot along.
        self._fill()

    @property
    def room(self) -> int:
        """How many more messages may be claimed now."""
        if self._withheld >= self._size * _WITHHELD:
            return 0
        ahead = 0
        if self._average_s < _AHEAD_S:
            ahead = min(_MAX_AHEAD, int(self._size * _AHEAD_S / self._average_s))
            if len(self._waiting) * 2 > ahead:
                return 0  # claim again when half of what was claimed ahead is used up
        return max(0, self._size + ahead - len(self.running) - len(self._waiting))

    def withhold(self, count: int) -> None:
        """So many messages wait elsewhere for a turn; too many, and no more are claimed."""
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

    def offer(self, runs: Iterable[Run]) -> None:
        """Queue messages for the slots."""
        self._waiting.extend(runs)
        for _ in range(min(len(self._waiting), len(self._idle))):
            self._wake()

    def take_waiting(self) -> list[Run]:
        """Take back everything that no slot has started, oldest first."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self._changed.set()
        return waiting

    def hand_back(self) -> None:
        """Stop everything that runs; its messages return to their lists."""
        for run in list(self.running):
            stop_run(run, Stop.GIVEN_BACK)

    def waiting_since(self) -> float | None:
        """time.monotonic() when the oldest message not started was claimed."""
        return self._waiting[0].taken_at if self._waiting else None

    def _wake(self) -> None:
        idle = self._idle.popleft()
        if not idle.done():
            idle.set_result(None)

    def _superfluous(self, slot: asyncio.Task[None] | None) -> bool:
        """Whether a slot is one too many; it counts no more at once, or all would leave."""
        if len(self._tasks) <= self._size or slot is None:
            return False
        self._tasks.discard(slot)
        return True

    async def _slot(self) -> None:
        loop = asyncio.get_running_loop()
        waiting, running, changed = self._waiting, self.running, self._changed
        runner: asyncio.Task[None] | None = asyncio.current_task()
        clock = time.perf_counter
        turn_ends = clock() + _TURN_S
        while not self._superfluous(runner):
            if not waiting:
                idle = loop.create_future()
                self._idle.append(idle)
                await idle
                turn_ends = clock() + _TURN_S
                continue
            run = waiting.popleft()
            run.runner = runner
            running.add(run)
            started = clock()
            try:
                await self._perform(run)
            finally:
                run.runner = None
                running.discard(run)
                changed.set()
                ended = clock()
                self._average_s += _NEWEST * (ended - started - self._average_s)
            if ended > turn_ends:
                await asyncio.sleep(0)
                turn_ends = clock() + _TURN_S

"""What a worker does beside running tasks: shows life, renews, hands out what is due, sweeps."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from crucible.broker.claiming.recovery.sweeper import SWEEP_S
from crucible.redis_keys import WORKER_TTL_S
from crucible.worker.consumer import RECHECK_S, Holdings
from crucible.worker.execution.cancellation import stop_run
from crucible.worker.hooks import Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.broker.claiming.claims import Claims
    from crucible.broker.claiming.delayed import DueMessages
    from crucible.broker.claiming.recovery.sweeper import Sweeper

logger = logging.getLogger(__name__)

#: Seconds between signs of life. At a third of their TTL two may be missed.
_RENEW_S = WORKER_TTL_S / 3
#: Shortest pause between two looks for due messages.
_SHORTEST_WAIT_S = 0.001
#: The same after a look that met claims which could not be given back.
_STUCK_WAIT_S = 0.1


class Upkeep:
    """The loops of one worker that keep the queues in order.

    Args:
        claims: the worker's own.
        held: what it holds.
        due: hands out delayed messages.
        sweeper: gives back what dead workers held.
        sign: makes the worker's sign of life.
    """

    def __init__(
        self,
        claims: Claims,
        held: Holdings,
        due: DueMessages,
        sweeper: Sweeper,
        sign: Callable[[], str],
    ) -> None:
        self._claims = claims
        self._held = held
        self._due = due
        self._sweeper = sweeper
        self._sign = sign
        self._shown_at = time.monotonic()
        self._shown = asyncio.Event()
        self._next_due: float | None = None
        self._due_sooner = asyncio.Event()

    async def show_life(self) -> None:
        """Show life and renew every claim; runs whose claim was taken away are stopped.

        Raises:
            BrokerError: the server is gone or refuses.
        """
        # Before the call: its answer may have taken long.
        now = time.monotonic()
        lost = await self._claims.renew([run.claim for run in self._held], self._sign())
        for claim in lost:
            run = self._held.drop(claim)
            if run is not None:
                logger.warning("taken for dead: a task here runs elsewhere now: %s", claim.field)
                stop_run(run, Stop.LOST)
        self._shown_at = now
        self._shown.set()

    @property
    def overdue(self) -> bool:
        """Whether the sign of life may have run out: what is held here may be held by others."""
        return time.monotonic() - self._shown_at > WORKER_TTL_S

    async def caught_up(self) -> None:
        """Return once life has been shown again; runs that were lost are stopped by then."""
        while self.overdue:
            self._shown.clear()
            await self._shown.wait()

    async def lease(self, beat: Callable[[], None]) -> None:
        """Show life until cancelled."""
        pause_s = min(_RENEW_S, self._claims.visibility_timeout_s / 3)
        while True:
            await self.show_life()
            beat()
            await asyncio.sleep(pause_s)

    def expect_due(self, eta: float) -> None:
        """A message was parked until ``eta``, seconds since the epoch on the server's clock."""
        if self._next_due is None or eta < self._next_due:
            self._next_due = eta
            self._due_sooner.set()

    async def hand_out_due(self, beat: Callable[[], None]) -> None:
        """Move delayed messages to their lists, on time, until cancelled."""
        while True:
            self._due_sooner.clear()
            self._next_due, old = await self._due.move()
            shortest_s = _SHORTEST_WAIT_S
            if old and not (await self._sweeper.restore_old(old)).moved:
                shortest_s = _STUCK_WAIT_S
            beat()
            wait_s = RECHECK_S
            if self._next_due is not None:
                wait_s = min(wait_s, self._next_due - self._claims.clock.now())
            try:
                async with asyncio.timeout(max(shortest_s, wait_s)):
                    await self._due_sooner.wait()
            except TimeoutError:
                continue

    async def sweep(self, beat: Callable[[], None]) -> None:
        """Give back what dead workers held, until cancelled."""
        while True:
            await self._sweeper.sweep()
            beat()
            await asyncio.sleep(SWEEP_S)

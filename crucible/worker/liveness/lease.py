"""The worker's lease on its claims: its heartbeat and the renewal, in one script call.

The heartbeat is the key ``crucible:worker:<id>``. While it exists, no other worker recovers the
claims of this one; once it has run out, any of them may.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from crucible.redis_keys import WORKER_TTL_S
from crucible.worker.execution.cancellation import stop_run
from crucible.worker.run import Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.broker.claiming.claims import Claims
    from crucible.broker.outage import Outage
    from crucible.worker.unsettled import UnsettledRuns

logger = logging.getLogger(__name__)

#: Seconds between heartbeats. At a third of their TTL two may be missed.
_RENEW_S = WORKER_TTL_S / 3


class Lease:
    """Keeps the worker's heartbeat and its claims alive.

    Args:
        claims: the worker's own.
        unsettled: the runs whose claims are renewed.
        heartbeat: makes the value of the worker's key.
        outage: is notified when a renewal succeeds.
    """

    def __init__(
        self,
        claims: Claims,
        unsettled: UnsettledRuns,
        heartbeat: Callable[[], str],
        outage: Outage,
    ) -> None:
        self._outage = outage
        self._claims = claims
        self._unsettled = unsettled
        self._heartbeat = heartbeat
        self._renewed_at = time.monotonic()
        self._renewed = asyncio.Event()

    async def renew(self) -> None:
        """Send a heartbeat and renew every claim; runs whose claim was taken away are stopped.

        Raises:
            BrokerError: the server is gone or refuses.
        """
        # The lease counts from before the call: the answer may have taken long.
        now = time.monotonic()
        lost = await self._claims.renew([run.claim for run in self._unsettled], self._heartbeat())
        for claim in lost:
            run = self._unsettled.drop(claim)
            if run is not None:
                logger.warning(
                    "this worker was declared dead; its task now runs elsewhere: %s", claim.field
                )
                stop_run(run, Stop.LOST)
        self._renewed_at = now
        self._renewed.set()
        self._outage.succeeded()

    @property
    def overdue(self) -> bool:
        """Whether the heartbeat may have run out: others may hold what is held here."""
        return time.monotonic() - self._renewed_at > WORKER_TTL_S

    async def wait_until_renewed(self) -> None:
        """Return once the lease is not overdue; runs that were lost are stopped by then."""
        while self.overdue:
            self._renewed.clear()
            await self._renewed.wait()

    async def run(self, beat: Callable[[], None]) -> None:
        """Renew until cancelled.

        Raises:
            BrokerError: the server is gone or refuses; run again.
        """
        pause_s = min(_RENEW_S, self._claims.visibility_timeout_s / 3)
        while True:
            await self.renew()
            beat()
            await asyncio.sleep(pause_s)

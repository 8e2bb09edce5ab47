"""The way of a message through the worker: performed, delayed, ended."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from crucible.broker.claiming.settlement import Destination, Disposition, Settlement
from crucible.broker.wire.received import mark_received
from crucible.errors import BrokerUnavailable
from crucible.worker.consumer import POLL_S
from crucible.worker.execution.cancellation import calm
from crucible.worker.execution.execute import Delayed, RateLimited
from crucible.worker.hooks import Stop, tell
from crucible.worker.settlement_writer import SettlementWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crucible.broker.claiming.claims import Claims
    from crucible.worker.consumer import Holdings
    from crucible.worker.execution.execute import Trace
    from crucible.worker.hooks import Run
    from crucible.worker.upkeep import Upkeep

logger = logging.getLogger(__name__)


class Processor:
    """Takes runs from the slots to how they end.

    Args:
        claims: the worker's own.
        held: what it holds.
        upkeep: told when delayed messages are due.
        max_deliveries: deliveries without an end before a message is given up.

    Attributes:
        finisher: writes endings.
        trace: runs messages; set before the first run.
        offer: queues runs for the slots again; set before the first run.
        told: called with endings the server has; set before the first run.
    """

    trace: Trace
    offer: Callable[[Iterable[Run]], None]
    told: Callable[[Sequence[Settlement]], None]

    def __init__(self, claims: Claims, held: Holdings, upkeep: Upkeep, max_deliveries: int) -> None:
        self.finisher = SettlementWriter(claims, self._ended)
        self._claims = claims
        self._held = held
        self._upkeep = upkeep
        self._max_deliveries = max_deliveries

    async def perform(self, run: Run) -> None:
        """Run one message and see to its end; only the slot's own cancellation is raised."""
        try:
            if (run.stop or self._upkeep.overdue) and not await self._is_ours(run):
                return
            try:
                if run.stop is None:
                    ending = await self.trace.perform(run)
                else:
                    ending = await self.trace.stopped(run)
            except Delayed as delayed:
                await self._delay(run, delayed.eta)
                return
            except RateLimited:
                return
        except Exception:  # a fault of ours; the slot and the other messages must go on
            logger.exception("a message could not be handled: %s", run.claim.field)
            ending = self.trace.ends.fault(run, self._max_deliveries)
        except BaseException:
            if run.stop not in (Stop.CLOSED, Stop.LET_GO):
                # The slot ends with a run in hand, which nobody else would end.
                self.finisher.put(self.trace.ends.fault(run, self._max_deliveries))
            raise
        if ending is None:
            self._held.drop(run.claim)
        else:
            self.finisher.put(ending)

    async def _is_ours(self, run: Run) -> bool:
        """Whether a message may be started, once this worker is known to live.

        A worker that was stopped, or cut off for long, wakes up with messages in hand that others
        have run meanwhile.
        """
        try:
            await self._upkeep.caught_up()
        except asyncio.CancelledError:
            if run.stop in (None, Stop.CLOSED, Stop.LET_GO) or run.runner is None:
                raise
            await calm(run.runner)
        return run.stop is not Stop.LOST

    async def _delay(self, run: Run, eta: float) -> None:
        """Park a message until its eta; it does not run here, so nothing stops it."""
        run.runner = None
        # As from stock, which tells of it when the message comes, not when it is due.
        tell(self.trace.ends.hooks, lambda to: to.received(run))
        while True:
            try:
                due = await self._park(run, eta)
                break
            except BrokerUnavailable:
                await asyncio.sleep(POLL_S)
        if due:
            self.offer([run])
            return
        self._held.drop(run.claim)
        self._upkeep.expect_due(eta)

    async def _park(self, run: Run, eta: float) -> bool:
        """Put it among the delayed messages; True when it is due already and was left."""
        if not run.told or run.message is None:
            return bool(await self._claims.delay([(run.claim, eta)]))
        # Whoever takes it when it is due, perhaps another worker, is not to tell of it again.
        raw = mark_received(run.message)
        parked = Disposition(to=Destination.DELAYED, raw=raw, eta=eta)
        await self._claims.settle([Settlement(run.claim, disposition=parked)])
        return False

    def _ended(self, endings: Sequence[Settlement]) -> None:
        self.told(endings)
        for ending in endings:
            if ending.claim is not None:
                self._held.drop(ending.claim)
            if ending.disposition is not None and ending.disposition.to is Destination.DELAYED:
                self._upkeep.expect_due(ending.disposition.eta)

"""The way of a run through the worker: from its slot, through its execution, to the writer.

The life of a message: the consumer claims it (``consumer``), a slot takes its run (``slots``), the
processor executes it (``execution.execute``), which calls its task and turns what that comes to
into a settlement (``settlements``), and the settlement writer writes it (``settlement_writer``).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from crucible.broker.claiming.claims import Destination, Disposition, Settlement
from crucible.broker.wire.received import mark_received
from crucible.errors import BrokerUnavailable
from crucible.worker.admission import NotDue, RateLimited
from crucible.worker.execution.cancellation import clear_cancellation
from crucible.worker.run import Stop

if TYPE_CHECKING:
    from crucible.broker.claiming.claims import Claims
    from crucible.worker.execution.execute import Execution
    from crucible.worker.liveness.delayed import DelayedMessages
    from crucible.worker.liveness.lease import Lease
    from crucible.worker.run import Run
    from crucible.worker.settlement_writer import SettlementWriter
    from crucible.worker.settlements import Settlements
    from crucible.worker.unsettled import UnsettledRuns

logger = logging.getLogger(__name__)

#: Seconds between attempts to delay a message while the server does not answer.
_RETRY_S = 0.1


class Processor:
    """Takes runs from their slots to their settlements.

    Args:
        execution: executes runs.
        settlements: settles runs that this worker failed to handle.
        writer: writes settlements.
        claims: the worker's own; delays messages.
        lease: says whether claims may have been lost.
        delayed: is given the times of delayed messages.
        unsettled: the runs that are not settled yet.
    """

    def __init__(
        self,
        execution: Execution,
        settlements: Settlements,
        writer: SettlementWriter,
        claims: Claims,
        lease: Lease,
        delayed: DelayedMessages,
        unsettled: UnsettledRuns,
    ) -> None:
        self._execution = execution
        self._settlements = settlements
        self._writer = writer
        self._claims = claims
        self._lease = lease
        self._delayed = delayed
        self._unsettled = unsettled

    async def process(self, run: Run) -> None:
        """Take one run to its settlement; only the slot's own cancellation is raised."""
        try:
            if (run.stop is not None or self._lease.overdue) and not await self._is_ours(run):
                return
            while True:
                try:
                    settlement = await self._execution.execute(run)
                    break
                except NotDue as not_due:
                    # Not delayed means due by now, by the server's clock: executed once more.
                    if await self._delay(run, not_due.eta):
                        return
        except RateLimited:
            return
        except Exception:  # supervision: a fault of ours; the slot and other messages must go on
            logger.exception("a message could not be handled: %s", run.claim.field)
            settlement = self._settlements.worker_fault(run)
        except BaseException:
            if run.stop not in (Stop.CLOSED, Stop.ABANDONED):
                # The slot ends with this run in hand, and nothing else would settle it.
                self._writer.put(self._settlements.worker_fault(run))
            raise
        if settlement is None:
            self._unsettled.drop(run.claim)
        else:
            self._put(run, settlement)

    def _put(self, run: Run, settlement: Settlement) -> None:
        if run.follow_ups or run.result_ttl_s is not None:
            settlement = self._settlements.with_follow_ups(run, settlement)
        self._writer.put(settlement)

    async def _is_ours(self, run: Run) -> bool:
        """Whether the claim of a run is still ours, once the lease has been renewed.

        A worker that was suspended, or cut off for long, wakes up with claims that others have
        recovered, and perhaps run, meanwhile.
        """
        try:
            await self._lease.wait_until_renewed()
        except asyncio.CancelledError:
            if run.stop in (None, Stop.CLOSED, Stop.ABANDONED) or run.runner is None:
                raise
            await clear_cancellation(run.runner)
        return run.stop is not Stop.LOST

    async def _delay(self, run: Run, eta: float) -> bool:
        """Delay a message until its eta; False when that has come already."""
        runner, run.runner = run.runner, None  # it does not run here, so nothing may stop it
        while True:
            try:
                due = await self._park(run, eta)
                break
            except BrokerUnavailable:
                await asyncio.sleep(_RETRY_S)
        if due:
            run.runner = runner
            return False
        self._unsettled.drop(run.claim)
        self._delayed.expect(eta)
        return True

    async def _park(self, run: Run, eta: float) -> bool:
        """Put it among the delayed messages; True when it is due already and was left."""
        if not run.received_sent or run.message is None:
            return bool(await self._claims.delay([(run.claim, eta)]))
        # The worker that claims it when it is due, perhaps another, must not send the event again.
        raw = mark_received(run.message)
        disposition = Disposition(to=Destination.DELAYED, raw=raw, eta=eta)
        await self._claims.settle([Settlement(run.claim, disposition=disposition)])
        return False

"""Settlements that the server refuses: tried again, then made failures, then dead letters.

A chain whose next list is a key of another type, a result larger than the server takes
(``proto-max-bulk-len``), a right that is missing. The claim is renewed for as long as the worker
runs, so something has to go on working on it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from crucible.errors import BrokerError, BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from crucible.broker.claiming.claims import Claims, Settlement
    from crucible.worker.settlement_writer import Refused, SettlementWriter
    from crucible.worker.settlements import Settlements
    from crucible.worker.unsettled import UnsettledRuns

logger = logging.getLogger(__name__)

#: Seconds before each try as it is: what is in its way may be taken away at once.
_PAUSES_S = (0.05, 0.2, 1.0)
#: Seconds before the next round where even the dead letter is refused.
_ROUND_S = 5.0
#: Seconds between attempts while the server does not answer.
_AWAY_S = 0.5


class RefusedSettlements:
    """Takes the settlements that the writer could not write to an end.

    Args:
        writer: hands them over, and is given the ones that were written after all.
        claims: writes them.
        unsettled: their runs.
        settlements: turns them into failures and dead letters.
    """

    def __init__(
        self,
        writer: SettlementWriter,
        claims: Claims,
        unsettled: UnsettledRuns,
        settlements: Settlements,
    ) -> None:
        self._writer = writer
        self._claims = claims
        self._unsettled = unsettled
        self._settlements = settlements
        #: In hand; the next ``run`` goes on with it.
        self._refused: Refused | None = None

    async def run(self, beat: Callable[[], None]) -> None:
        """Work until cancelled."""
        refused = self._writer.refused
        while True:
            beat()
            self._refused = self._refused or await refused.get()
            if not await self._end(self._refused):
                logger.error("nothing that ends a claim is accepted; trying again")
                await asyncio.sleep(_ROUND_S)
                refused.put_nowait(self._refused)
            self._refused = None

    async def _end(self, refused: Refused) -> bool:
        """Whether the server took the settlement, or what was made of it."""
        for pause_s in () if refused.too_large else _PAUSES_S:
            await asyncio.sleep(pause_s)
            if await self._written(refused.settlement):
                return True
        async for settlement in self._replacements(refused):
            if await self._written(settlement):
                return True
        return False

    async def _replacements(self, refused: Refused) -> AsyncIterator[Settlement]:
        """What may be accepted instead, the better first."""
        claim = refused.settlement.claim
        run = None if claim is None else self._unsettled.get(claim)
        if run is None:
            # Nothing but a state that no waiter ends by, or another worker's by now.
            return
        if run.message is not None:
            try:
                yield await self._settlements.refused(
                    run, run.message, str(refused.error), keep=not refused.too_large
                )
            except BrokerError as error:
                logger.warning("the failure of task %s is refused too: %s", run.message.id, error)
        yield self._settlements.dead_letter(run, "unsettled", str(refused.error))

    async def _written(self, settlement: Settlement) -> bool:
        while True:
            try:
                await self._claims.settle([settlement])
            except BrokerUnavailable:
                await asyncio.sleep(_AWAY_S)
            except BrokerError as error:
                logger.debug("refused again: %s", error)
                return False
            else:
                self._writer.note_written([settlement])
                return True

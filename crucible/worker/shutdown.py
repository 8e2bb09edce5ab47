"""The end of a worker: stop taking first, send what is left last."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from crucible.errors import BrokerError
from crucible.worker.consumer import PATIENCE_S

if TYPE_CHECKING:
    from crucible.broker.claiming.claims import Claims
    from crucible.worker.consumer import Consumer, Holdings
    from crucible.worker.control.node import Node
    from crucible.worker.rate_limits import RateLimits
    from crucible.worker.settlement_writer import SettlementWriter
    from crucible.worker.slots import Slots
    from crucible.worker.supervisor import Supervisor

logger = logging.getLogger(__name__)

#: Seconds the whole end may take once it is in a hurry.
_HURRY_S = 3.0


class Shutdown:
    """Ends a worker's work, once.

    Args:
        supervisor: keeps the loops.
        intake: claims messages.
        slots: run them.
        rates: keep some waiting for their turn.
        finisher: writes how they ended.
        claims: the worker's own.
        held: what it holds.
        fleet: tells the others.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        intake: Consumer,
        slots: Slots,
        rates: RateLimits,
        finisher: SettlementWriter,
        claims: Claims,
        held: Holdings,
        fleet: Node,
    ) -> None:
        self._supervisor = supervisor
        self._intake = intake
        self._slots = slots
        self._rates = rates
        self._finisher = finisher
        self._claims = claims
        self._held = held
        self._fleet = fleet
        self._begun = False
        self._hurried = asyncio.Event()

    async def until(
        self, stop: asyncio.Event, hurry: asyncio.Event | None, deadline_s: float
    ) -> None:
        """Wait for ``stop`` or a shutdown command, then drain; ``hurry`` cuts that short.

        Raises:
            WorkerFailed: a loop could not be kept alive.
        """
        failing = asyncio.create_task(self._supervisor.failed())
        waiting = asyncio.create_task(stop.wait())
        told = asyncio.create_task(self._fleet.stop_asked.wait())
        hurrying = asyncio.create_task((hurry or asyncio.Event()).wait())
        draining: asyncio.Task[None] | None = None
        try:
            await asyncio.wait([failing, waiting, told], return_when=asyncio.FIRST_COMPLETED)
            draining = asyncio.create_task(self.drain(deadline_s))
            await asyncio.wait([draining, hurrying], return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                self._hurried.set()
                self._slots.hand_back()  # here too: draining may not have come to its wait yet
                await asyncio.wait([draining], timeout=_HURRY_S)
            if draining.done():
                draining.result()
            if failing.done():
                failing.result()
        finally:
            tasks = [failing, waiting, told, hurrying, *([] if draining is None else [draining])]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def drain(self, deadline_s: float) -> None:
        """Stop taking messages, hand back what was not started, let the rest end.

        What still runs after ``deadline_s`` is cancelled and handed back.
        """
        if self._begun:
            return
        self._begun = True
        await self._intake.stop()
        await self._supervisor.stop("intake")
        await self._intake.give_back([*self._rates.take_all(), *self._slots.take_waiting()])
        if not await self._idle_within(deadline_s):
            await self._hand_back_running()
        in_hurry = self._hurried.is_set()
        await self._flush(_HURRY_S - PATIENCE_S if in_hurry else deadline_s)

    async def _idle_within(self, deadline_s: float) -> bool:
        """Whether everything that runs has ended, in time and before anybody was in a hurry."""
        idle = asyncio.create_task(self._slots.wait_until_idle())
        hurried = asyncio.create_task(self._hurried.wait())
        try:
            await asyncio.wait(
                [idle, hurried], timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED
            )
            return idle.done()
        finally:
            for task in (idle, hurried):
                task.cancel()
            await asyncio.wait([idle, hurried])

    async def _hand_back_running(self) -> None:
        self._slots.hand_back()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._slots.wait_until_idle()
        except TimeoutError:
            # Plain functions in threads, say; others take up their messages when we are gone.
            logger.warning("%d tasks cannot be stopped", len(self._slots.running))

    async def _flush(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(max(1.0, deadline_s)):
                await self._finisher.flushed()
                await self._fleet.leave()
                if not self._held:
                    await self._supervisor.stop("lease")
                    await self._claims.leave()
        except (TimeoutError, BrokerError) as error:
            # Claims that stay are restored by others once our sign of life has run out.
            logger.warning("stopping with results unwritten: %s", error)

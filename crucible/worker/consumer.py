"""Claiming messages from the lists, no more than this worker can start on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from crucible.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crucible.broker.claiming.claims import Claims
    from crucible.worker.run import Run
    from crucible.worker.settlement_writer import SettlementWriter
    from crucible.worker.slots import Slots
    from crucible.worker.unsettled import UnsettledRuns
    from crucible.worker.wakeup import WakeUp

logger = logging.getLogger(__name__)

#: Seconds between looks into the lists while nothing is announced, should a wake-up be lost.
RECHECK_S = 5.0
#: The same while nothing can be announced.
POLL_S = 0.1
#: The same while the server's memory is full.
FULL_PAUSE_S = 0.2
#: Seconds a message may wait in this worker for a slot before it is given back to others.
PATIENCE_S = 1.0
#: Seconds a call on its way may take when the worker stops.
_STOP_S = 6.0


class Consumer:
    """Claims messages for the slots.

    Args:
        claims: takes them.
        slots: run them.
        unsettled: keeps their runs until they are settled.
        writer: writes their settlements; while it is full none are claimed.
        wake_up: signals that a list may have something; None where ``claims`` waits by itself.
        troubled: whether tasks could only fail here now; none are claimed while it is true.
    """

    def __init__(
        self,
        claims: Claims,
        slots: Slots,
        unsettled: UnsettledRuns,
        writer: SettlementWriter,
        wake_up: WakeUp | None,
        troubled: Callable[[], bool],
    ) -> None:
        self._troubled = troubled
        self._claims = claims
        self._slots = slots
        self._unsettled = unsettled
        self._writer = writer
        self._wake_up = wake_up
        self._returning: list[Run] = []
        self._stopping = False
        self._stopped = asyncio.Event()

    async def stop(self) -> None:
        """Claim no more; returns once no call is under way that could still claim.

        A call that is cut off may have been executed, and what it claimed would be unknown.
        """
        self._stopping = True
        if self._wake_up is not None:
            self._wake_up.ring()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self._stopped.wait()

    async def run(self, beat: Callable[[], None]) -> None:
        """Claim until cancelled.

        Raises:
            BrokerError: the server is gone or refuses; run again.
        """
        wake_up = self._wake_up
        while not self._stopping:
            beat()
            if self._troubled():
                # Left in the list, a message may be taken by a worker that can run it.
                await asyncio.sleep(POLL_S)
                continue
            if self._returning:
                await self._retry_returning()
                continue
            if self._writer.full:
                # Claiming and running cost a worker less than settling: it would get further and
                # further ahead of what the server knows.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE_S):
                        await self._writer.wait_for_room()
                continue
            room = self._slots.room
            if room == 0:
                await self._wait_for_room()
                continue
            if wake_up is not None:
                wake_up.clear()
            # One at a time, and settled before the next: that is what gives memory back.
            claims = await self._claims.take(room, limit_when_full=0 if self._unsettled else 1)
            if claims:
                self._slots.offer(self._unsettled.add(claims))
                # Slots start on them before the next claim is built and sent.
                await asyncio.sleep(0)
            else:
                await self._wait_for_messages()
        await self.requeue(self._returning)
        self._stopped.set()
        await asyncio.get_running_loop().create_future()

    async def _wait_for_messages(self) -> None:
        """Wait after a call that claimed nothing."""
        wake_up = self._wake_up
        if self._claims.is_full:
            # That there is memory again is announced by nothing.
            await asyncio.sleep(FULL_PAUSE_S)
        elif wake_up is not None:
            await wake_up.wait(RECHECK_S if wake_up.armed else POLL_S)
        elif not self._claims.queues:
            # The last queue was cancelled: there is nothing that a claim could wait on.
            await asyncio.sleep(POLL_S)

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._slots.wait_for_room()
        except TimeoutError:
            await self._return_waiting()

    async def _return_waiting(self) -> None:
        """Give back what was claimed ahead and cannot start: other workers may be free."""
        since = self._slots.waiting_since()
        if since is not None and time.monotonic() - since > PATIENCE_S:
            self._returning += self._slots.take_waiting()

    async def _retry_returning(self) -> None:
        """Give back what is to go, again and again until the server confirms it.

        After a call without an answer the messages may be in their lists, and run elsewhere:
        running them here would run them twice. Giving back what is gone already does nothing.
        """
        if await self.requeue(self._returning):
            self._returning = []
        else:
            await asyncio.sleep(POLL_S)

    async def requeue(self, runs: Sequence[Run]) -> bool:
        """Return claims that were not started to where they came from; False if that failed."""
        if not runs:
            return True
        claims = [run.claim for run in runs]
        try:
            await self._claims.requeue(claims)
        except BrokerError as error:
            logger.warning("%d claims could not be given back: %s", len(claims), error)
            return False
        for claim in claims:
            self._unsettled.drop(claim)
        return True

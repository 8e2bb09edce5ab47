"""Claiming messages from the lists, no more than this worker can start on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from crucible.broker.claiming.claims import MAX_BATCH
from crucible.errors import BrokerError, BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

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
#: Seconds between looks whether what was claimed ahead and waits for a slot is to be given back.
LOOK_S = 0.005
#: Seconds between looks whether there is room, should a change be missed.
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
        while not self._stopping:
            beat()
            if self._troubled():
                # Left in the list, a message may be taken by a worker that can run it.
                await asyncio.sleep(POLL_S)
            elif await self._must_return():
                await self._retry_returning()
            elif self._writer.full:
                # Claiming and running cost a worker less than settling: it would get further and
                # further ahead of what the server knows.
                await self._wait_at_most(PATIENCE_S, self._writer.wait_for_room)
            elif room := self._slots.room:
                await self._claim(room)
            else:
                await self._wait_at_most(PATIENCE_S, self._slots.wait_for_room)
        await self.requeue(self._returning)
        self._stopped.set()
        await asyncio.get_running_loop().create_future()

    async def _claim(self, room: int) -> None:
        """Claim so many messages for the slots; wait where there are none."""
        wake_up = self._wake_up
        if wake_up is not None:
            wake_up.clear()
        # While memory is full one at a time, settled before the next: that gives memory back.
        claims = await self._claims.take(room, limit_when_full=0 if self._unsettled else 1)
        # One message at a time is claimed without a wake-up, and that waits for it.
        self._slots.backlog = wake_up is not None and len(claims) >= min(room, MAX_BATCH)
        if claims:
            self._slots.offer(self._unsettled.add(claims))
            # Slots start on them before the next claim is built and sent.
            await asyncio.sleep(0)
        elif self._claims.is_full:
            # That there is memory again is announced by nothing.
            await asyncio.sleep(self._pause_s(FULL_PAUSE_S))
        elif wake_up is not None:
            await wake_up.wait(self._pause_s(RECHECK_S if wake_up.armed else POLL_S))
        elif not self._claims.queues:
            # The last queue was cancelled: there is nothing that a claim could wait on.
            await asyncio.sleep(POLL_S)

    async def _must_return(self) -> bool:
        """Whether claims are to be given back; takes what was claimed ahead and cannot start."""
        if self._slots.holds_waiting:
            # After the loop was blocked, the slots go first: they may start what they hold.
            await asyncio.sleep(0)
            self._returning += self._slots.take_excess()
        return bool(self._returning)

    async def _wait_at_most(self, longest_s: float, wait: Callable[[], Awaitable[None]]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s(longest_s)):
                await wait()

    def _pause_s(self, longest_s: float) -> float:
        """Seconds to wait at most: what is held ahead is looked at again soon."""
        return min(LOOK_S, longest_s) if self._slots.holds_waiting else longest_s

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
            if not isinstance(error, BrokerUnavailable):
                logger.warning("%d claims could not be given back: %s", len(claims), error)
            return False
        for claim in claims:
            self._unsettled.drop(claim)
        return True

"""Moving delayed messages to their lists when they are due.

Any worker moves any message: a delayed message is in no worker's memory, and who delayed it may be
gone when it is due.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crucible.broker.claiming.claims import Destination

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.claiming.delayed import DueMessages
    from crucible.broker.claiming.recovery.sweeper import Sweeper
    from crucible.broker.redis.clock import ServerClock

#: Longest pause between two looks: other workers delay messages too, and do not report them.
_LONGEST_WAIT_S = 5.0
#: Shortest pause between two looks for due messages.
_SHORTEST_WAIT_S = 0.001
#: The same after a look that met only claims which could not be given back.
_STUCK_WAIT_S = 0.1


class DelayedMessages:
    """Moves messages that are due, this worker's and others'.

    Args:
        due: moves them.
        sweeper: gives back claims older than the visibility timeout, which the same look finds.
        clock: of the queue server.
    """

    def __init__(self, due: DueMessages, sweeper: Sweeper, clock: ServerClock) -> None:
        self._due = due
        self._sweeper = sweeper
        self._clock = clock
        self._next_due: float | None = None
        self._due_sooner = asyncio.Event()

    def expect(self, eta: float) -> None:
        """A message was delayed until ``eta``, seconds since the epoch on the server's clock."""
        if self._next_due is None or eta < self._next_due:
            self._next_due = eta
            self._due_sooner.set()

    def settled(self, settlements: Iterable[Settlement]) -> None:
        """Expect the messages that were delayed by settlements the server has."""
        for settlement in settlements:
            if (
                settlement.disposition is not None
                and settlement.disposition.to is Destination.DELAYED
            ):
                self.expect(settlement.disposition.eta)

    async def run(self, beat: Callable[[], None]) -> None:
        """Move what is due to its lists, on time, until cancelled.

        Raises:
            BrokerError: the server is gone or refuses; run again.
        """
        while True:
            # Before the look: what is delayed while it is under way may be due before its answer.
            self._due_sooner.clear()
            self._next_due, old = await self._due.move()
            shortest_s = _SHORTEST_WAIT_S
            if old and not (await self._sweeper.restore_old(old)).moved:
                shortest_s = _STUCK_WAIT_S
            beat()
            wait_s = _LONGEST_WAIT_S
            if self._next_due is not None:
                wait_s = min(wait_s, self._next_due - self._clock.now())
            try:
                async with asyncio.timeout(max(shortest_s, wait_s)):
                    await self._due_sooner.wait()
            except TimeoutError:
                continue

"""Taking messages from the lists, no more than this worker can start on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from crucible.errors import BrokerError
from crucible.worker.hooks import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from crucible.broker.claiming.claims import Claim, Claims
    from crucible.worker.settlement_writer import SettlementWriter
    from crucible.worker.slots import Slots
    from crucible.worker.wakeup import WakeUp

logger = logging.getLogger(__name__)

#: Seconds between looks into the lists while nothing is announced: the net below the wake-up.
RECHECK_S = 5.0
#: The same while nothing can be announced.
POLL_S = 0.1
#: The same while the server's memory is full.
FULL_PAUSE_S = 0.2
#: Seconds a message may wait in this worker for a slot before it is given back to others.
PATIENCE_S = 1.0
#: Seconds a call on its way may take when the worker stops.
_STOP_S = 6.0


class Holdings:
    """Every claim this worker has taken and not ended yet."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def take(self, claims: Iterable[Claim]) -> list[Run]:
        """Hold claims that were just made; returns their runs."""
        now = time.monotonic()
        runs = [Run(claim, now) for claim in claims]
        for run in runs:
            self._runs[run.claim.field] = run
        return runs

    def drop(self, claim: Claim) -> Run | None:
        """Hold a claim no longer."""
        return self._runs.pop(claim.field, None)


class Consumer:
    """Claims messages for the slots.

    Args:
        claims: takes them.
        slots: run them.
        held: keeps account of them.
        finisher: writes how they end; while it is full none are claimed.
        wake_up: says when a list may have something; None where ``claims`` waits by itself.
        troubled: whether tasks could only fail here now; none are claimed while it says so.
    """

    def __init__(
        self,
        claims: Claims,
        slots: Slots,
        held: Holdings,
        finisher: SettlementWriter,
        wake_up: WakeUp | None,
        troubled: Callable[[], bool],
    ) -> None:
        self._troubled = troubled
        self._claims = claims
        self._slots = slots
        self._held = held
        self._finisher = finisher
        self._wake_up = wake_up
        self._returning: list[Run] = []
        self._stopping = False
        self._stopped = asyncio.Event()

    async def stop(self) -> None:
        """Claim no more; returns once no call is on its way that could still claim.

        A call that is cut off may have been executed, and nobody would know what it claimed.
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
                await self._go_on_returning()
                continue
            if self._finisher.full:
                # Claiming costs a worker less than ending: it would run further and further ahead
                # of what the server knows.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE_S):
                        await self._finisher.wait_for_room()
                continue
            room = self._slots.room
            if room == 0:
                await self._wait_for_room()
                continue
            if wake_up is not None:
                wake_up.clear()
            # One at a time, and settled before the next: that is what gives memory back.
            claims = await self._claims.take(room, limit_when_full=0 if self._held else 1)
            if claims:
                self._slots.offer(self._held.take(claims))
                # Slots start on them before the next claim is built and sent.
                await asyncio.sleep(0)
            else:
                await self._wait_for_messages()
        await self.give_back(self._returning)
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
            await self._return_the_patient()

    async def _return_the_patient(self) -> None:
        """Give back what was claimed ahead and cannot start: other workers may be free."""
        since = self._slots.waiting_since()
        if since is not None and time.monotonic() - since > PATIENCE_S:
            self._returning += self._slots.take_waiting()

    async def _go_on_returning(self) -> None:
        """Give back what was to go, again and again until the server says that it went.

        After a call without an answer the messages may be in their lists, and run elsewhere:
        running them here would run them twice. Giving back what is gone already does nothing.
        """
        if await self.give_back(self._returning):
            self._returning = []
        else:
            await asyncio.sleep(POLL_S)

    async def give_back(self, runs: Sequence[Run]) -> bool:
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
            self._held.drop(claim)
        return True

"""Group commit of settlements: what comes while one flush is under way goes with the next."""

from __future__ import annotations

import asyncio
import bisect
import itertools
import logging
from typing import TYPE_CHECKING, NamedTuple

from crucible.broker.outage import Outage
from crucible.errors import BrokerError, BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crucible.broker.claiming.claims import Claims, Settlement

logger = logging.getLogger(__name__)

#: Seconds between attempts while the server does not answer.
_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
#: Most settlements of one flush: a long one would block the loop.
_MAX_FLUSH = 500
#: Bytes of results in one flush, unless one alone has more. A batch of more bytes than the second
#: number that could not be written in time is tried again in halves.
_MAX_FLUSH_BYTES, _DIVISIBLE_BYTES = 1024 * 1024, 64 * 1024
#: Seconds that what is in no hurry waits for a flush to go with.
_PATIENCE_S = 0.05
#: With so many waiting no more messages are claimed: one flush under way and the next. What ran and
#: is not written runs again should this worker die.
_FULL = 2 * _MAX_FLUSH


#: Tries after which a large settlement is suspected to be too large, and what the server's limit is
#: at least (``proto-max-bulk-len``).
_LARGE_TRIES, _LEAST_BULK_BYTES = 2, 1024 * 1024
#: What a server says to what is larger, where it gets to say it before it hangs up.
_BULK_LENGTH = "invalid bulk length"


class Refused(NamedTuple):
    """A settlement that the server refuses.

    Attributes:
        settlement: as it was.
        error: what was said.
        too_large: the server does not take so many bytes; trying again cannot help.
    """

    settlement: Settlement
    error: BrokerError
    too_large: bool


class SettlementWriter:
    """Writes settlements, again and again until the server has them.

    Args:
        claims: writes them.
        written: each called, in order, with settlements the server has.
        outage: is notified while the server is away.

    Attributes:
        settled: how many were written.
        refused: settlements of claims that the server refuses, for ``RefusedSettlements``.
    """

    def __init__(
        self,
        claims: Claims,
        *written: Callable[[Sequence[Settlement]], None],
        outage: Outage | None = None,
    ) -> None:
        self._outage = outage or Outage()
        self._claims = claims
        self._written = written
        self._pending: list[tuple[Settlement, asyncio.Future[None] | None]] = []
        #: Some of what is pending waits for no other.
        self._wanted = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self._all_written = asyncio.Event()
        self._all_written.set()
        self._written_some = asyncio.Event()
        self.settled = 0
        self.refused: asyncio.Queue[Refused] = asyncio.Queue()

    @property
    def full(self) -> bool:
        """So many settlements wait to be written that no more messages should be claimed."""
        return len(self._pending) >= _FULL

    async def wait_for_room(self) -> None:
        """Return when it is not ``full``."""
        while self.full:
            self._written_some.clear()
            await self._written_some.wait()

    def put(self, settlement: Settlement) -> None:
        """Write a settlement soon."""
        self._pending.append((settlement, None))
        self._all_written.clear()
        self._wanted.set()

    def put_patient(self, settlement: Settlement) -> None:
        """Write a settlement with those that come within the next few milliseconds, in order."""
        self._pending.append((settlement, None))
        self._all_written.clear()
        if self._later is None:
            loop = asyncio.get_running_loop()
            self._later = loop.call_later(_PATIENCE_S, self._write_patient)

    def _write_patient(self) -> None:
        self._later = None
        if self._pending:
            self._wanted.set()

    async def write(self, settlement: Settlement) -> None:
        """Write a settlement; returns when the server has it."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((settlement, written))
        self._all_written.clear()
        self._wanted.set()
        await written

    async def flushed(self) -> None:
        """Return when nothing is waiting to be written."""
        await self._all_written.wait()

    async def run(self, beat: Callable[[], None]) -> None:
        """Write until cancelled; what was under way stays pending, for the next ``run``."""
        if self._pending:
            self._wanted.set()
        while True:
            if not self._pending:
                self._all_written.set()
                self._wanted.clear()
            if not self._wanted.is_set():
                beat()
                await self._wanted.wait()
            batch = self._pending[: self._next_flush()]
            if len(batch) == len(self._pending):
                self._wanted.clear()
            await self._write([settlement for settlement, _ in batch], beat)
            del self._pending[: len(batch)]
            self._written_some.set()
            for _, written in batch:
                if written is not None and not written.done():
                    written.set_result(None)

    def _next_flush(self) -> int:
        """How many settlements go with the next flush."""
        sizes = [_size(settlement) for settlement, _ in self._pending[:_MAX_FLUSH]]
        if sum(sizes) <= _MAX_FLUSH_BYTES:
            return _MAX_FLUSH
        sums = list(itertools.accumulate(sizes))
        return max(1, bisect.bisect_right(sums, _MAX_FLUSH_BYTES))

    async def _write(self, settlements: Sequence[Settlement], beat: Callable[[], None]) -> None:
        """Write settlements; one that the server refuses does not hold up the others."""
        attempt = 0
        while True:
            beat()
            try:
                await self._claims.settle(settlements)
                break
            except BrokerUnavailable as error:
                self._outage.failed(error)
                if len(settlements) > 1 and sum(map(_size, settlements)) > _DIVISIBLE_BYTES:
                    # The link may be too slow for all of them at once.
                    middle = len(settlements) // 2
                    for part in (settlements[:middle], settlements[middle:]):
                        await self._write(part, beat)
                    return
                if attempt >= _LARGE_TRIES and await self._is_too_large(settlements[0]):
                    self._hand_over(settlements[0], error, too_large=True)
                    return
            except BrokerError as error:
                if len(settlements) > 1:
                    for settlement in settlements:
                        await self._write([settlement], beat)
                    return
                self._hand_over(settlements[0], error, too_large=_BULK_LENGTH in str(error))
                return
            await asyncio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
            attempt += 1
        self.note_written(settlements)

    async def _is_too_large(self, settlement: Settlement) -> bool:
        """Whether the server answers all but this: it hangs up on what is too large for it."""
        return _size(settlement) >= _LEAST_BULK_BYTES and await self._claims.is_served()

    def _hand_over(self, settlement: Settlement, error: BrokerError, *, too_large: bool) -> None:
        if settlement.claim is None:
            logger.error("a state of a task is not stored: %s", error)
            return
        logger.error("the server refuses the settlement of %s: %s", settlement.claim.field, error)
        self.refused.put_nowait(Refused(settlement, error, too_large))

    def note_written(self, settlements: Sequence[Settlement]) -> None:
        """The server has these settlements."""
        self.settled += len(settlements)
        for written in self._written:
            written(settlements)


def _size(settlement: Settlement) -> int:
    """About how many bytes a settlement is on the wire."""
    if settlement.effects is None or settlement.claim is None:
        return len(settlement.meta)
    # A callback's or next step's message carries the result too.
    pushed = sum(len(push.raw) for push in settlement.effects.always.pushes)
    return len(settlement.meta) + len(settlement.claim.raw) + pushed

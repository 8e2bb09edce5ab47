"""Group commit of settlements: what comes while one flush is under way goes with the next."""

from __future__ import annotations

import asyncio
import bisect
import itertools
import logging
from typing import TYPE_CHECKING

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
#: With so many waiting no more messages are claimed: one flush under way and the next. What ran and
#: is not written runs again should this worker die.
_FULL = 2 * _MAX_FLUSH


class SettlementWriter:
    """Writes settlements, again and again until the server has them.

    Args:
        claims: writes them.
        written: each called, in order, with settlements the server has.

    Attributes:
        settled: how many were written.
    """

    def __init__(self, claims: Claims, *written: Callable[[Sequence[Settlement]], None]) -> None:
        self._claims = claims
        self._written = written
        self._pending: list[tuple[Settlement, asyncio.Future[None] | None]] = []
        self._wanted = asyncio.Event()
        self._all_written = asyncio.Event()
        self._all_written.set()
        self._written_some = asyncio.Event()
        self.settled = 0

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
        while True:
            if not self._pending:
                self._all_written.set()
                self._wanted.clear()
                beat()
                await self._wanted.wait()
            batch = self._pending[: self._next_flush()]
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
                logger.warning("%d results wait for the server: %s", len(settlements), error)
                if len(settlements) > 1 and sum(map(_size, settlements)) > _DIVISIBLE_BYTES:
                    # The link may be too slow for all of them at once.
                    middle = len(settlements) // 2
                    for part in (settlements[:middle], settlements[middle:]):
                        await self._write(part, beat)
                    return
            except BrokerError:
                if len(settlements) > 1:
                    for settlement in settlements:
                        await self._write([settlement], beat)
                    return
                logger.exception("the server refuses a settlement; its claim stays")
                if attempt >= len(_PAUSES_S):
                    return
            await asyncio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
            attempt += 1
        self.settled += len(settlements)
        for written in self._written:
            written(settlements)


def _size(settlement: Settlement) -> int:
    """About how many bytes a settlement is on the wire."""
    if settlement.effects is None or settlement.claim is None:
        return len(settlement.meta)
    return len(settlement.meta) + len(settlement.claim.raw)

"""Group commit of endings: whatever ended while one flush was on its way goes with the next."""

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
#: Most endings of one flush: a long one would hold up the loop.
_MAX_FLUSH = 500
#: Bytes of results in one flush, unless one alone has more; half a batch with more than the second
#: is tried when all of it could not be written in time.
_MAX_FLUSH_BYTES, _DIVISIBLE_BYTES = 1024 * 1024, 64 * 1024
#: Endings that are many enough to be written before more messages are claimed: one flush under way
#: and the next. What ran and is not written runs again should this worker die.
_ENOUGH = 2 * _MAX_FLUSH


class SettlementWriter:
    """Writes endings, again and again until the server has them.

    Args:
        claims: writes them.
        written: called with endings the server has.
    """

    def __init__(self, claims: Claims, written: Callable[[Sequence[Settlement]], None]) -> None:
        self._claims = claims
        self._written = written
        self._pending: list[tuple[Settlement, asyncio.Future[None] | None]] = []
        self._wanted = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._written_some = asyncio.Event()
        self.finished = 0

    @property
    def full(self) -> bool:
        """So many endings wait to be written that no more should come about."""
        return len(self._pending) >= _ENOUGH

    async def wait_for_room(self) -> None:
        """Return when it is not ``full``."""
        while self.full:
            self._written_some.clear()
            await self._written_some.wait()

    def put(self, ending: Settlement) -> None:
        """Write an ending soon."""
        self._pending.append((ending, None))
        self._quiet.clear()
        self._wanted.set()

    async def write(self, ending: Settlement) -> None:
        """Write an ending; returns when the server has it."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((ending, written))
        self._quiet.clear()
        self._wanted.set()
        await written

    async def flushed(self) -> None:
        """Return when nothing is waiting to be written."""
        await self._quiet.wait()

    async def run(self, beat: Callable[[], None]) -> None:
        """Write until cancelled; what is in hand then stays to be written by the next run."""
        while True:
            if not self._pending:
                self._quiet.set()
                self._wanted.clear()
                beat()
                await self._wanted.wait()
            batch = self._pending[: self._next_flush()]
            await self._write([ending for ending, _ in batch], beat)
            del self._pending[: len(batch)]
            self._written_some.set()
            for _, written in batch:
                if written is not None and not written.done():
                    written.set_result(None)

    def _next_flush(self) -> int:
        """How many of the endings go with the next flush."""
        sizes = [_size(ending) for ending, _ in self._pending[:_MAX_FLUSH]]
        if sum(sizes) <= _MAX_FLUSH_BYTES:
            return _MAX_FLUSH
        sums = list(itertools.accumulate(sizes))
        return max(1, bisect.bisect_right(sums, _MAX_FLUSH_BYTES))

    async def _write(self, endings: Sequence[Settlement], beat: Callable[[], None]) -> None:
        """Write endings; one the server refuses for itself does not hold up the others."""
        attempt = 0
        while True:
            beat()
            try:
                await self._claims.settle(endings)
                break
            except BrokerUnavailable as error:
                logger.warning("%d results wait for the server: %s", len(endings), error)
                if len(endings) > 1 and sum(map(_size, endings)) > _DIVISIBLE_BYTES:
                    # The link may be too slow for all of them at once.
                    middle = len(endings) // 2
                    for part in (endings[:middle], endings[middle:]):
                        await self._write(part, beat)
                    return
            except BrokerError:
                if len(endings) > 1:
                    for ending in endings:
                        await self._write([ending], beat)
                    return
                logger.exception("the server refuses an ending; its claim stays")
                if attempt >= len(_PAUSES_S):
                    return
            await asyncio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
            attempt += 1
        self.finished += len(endings)
        self._written(endings)


def _size(ending: Settlement) -> int:
    """About how many bytes an ending is on the wire."""
    if ending.effects is None or ending.claim is None:
        return len(ending.meta)
    return len(ending.meta) + len(ending.claim.raw)

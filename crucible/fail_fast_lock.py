"""A lock for questions that many ask at once and one answers for all.

Who waits for it while another fails shares that failure. Else a downstream that is silent until a
deadline would keep the n-th who asks for n deadlines. ::

    async with lock.hold():
        if stale():  # who came before may have asked
            await ask()
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crucible.errors import CrucibleError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class FailFastLock:
    """A lock; the failure of whoever holds it counts for all who wait meanwhile."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._failures = 0
        self._failure: CrucibleError | None = None
        self._waiting = 0

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Wait for the lock, and hold it while the context is open.

        Whoever is cancelled while it holds the lock says nothing to the others: the next has it.

        Raises:
            CrucibleError: what somebody before failed with while this one waited.
        """
        before = self._failures
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
        try:
            if self._failure is not None and self._failures != before:
                raise self._failure.with_traceback(None)
            self._failure = None
            try:
                yield
            except CrucibleError as error:
                self._failures += 1
                self._failure = error
                raise
        finally:
            if not self._waiting:
                # An exception keeps the frames it went through.
                self._failure = None
            self._lock.release()

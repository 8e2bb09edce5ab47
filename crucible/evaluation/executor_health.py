"""Whether programs can be run now, checked in the background so that no reader waits for it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crucible.errors import ExecutorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor import Executor

log = logging.getLogger(__name__)

#: Seconds between two checks. ``/ready`` is behind by this and one heartbeat interval at most.
CHECK_EVERY_S = 2.0


class ExecutorHealth:
    """The health of an executor.

    Attributes:
        trouble: why programs cannot be run now; empty while they can.
    """

    def __init__(self) -> None:
        self.trouble = ""

    @asynccontextmanager
    async def watching(self, executor: Executor) -> AsyncIterator[None]:
        """Keep checking while the context is open."""
        await self._check(executor)
        checking = asyncio.create_task(
            self._keep_checking(executor), name="crucible-executor-health"
        )
        try:
            yield
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)

    async def _keep_checking(self, executor: Executor) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            await self._check(executor)

    async def _check(self, executor: Executor) -> None:
        try:
            await executor.check()
            trouble = ""
        except ExecutorError as error:
            trouble = str(error)
        if trouble != self.trouble:
            log.warning("programs cannot be run: %s", trouble) if trouble else log.info(
                "programs can be run again"
            )
        self.trouble = trouble

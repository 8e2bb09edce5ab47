"""Whether programs can be run now, asked now and then so that nobody has to wait for the answer."""

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

#: Seconds between two questions. ``/ready`` is behind by this and one sign of life at most.
ASK_EVERY_S = 2.0


class ExecutorHealth:
    """The executor's condition.

    Attributes:
        trouble: why programs cannot be run now; empty while they can.
    """

    def __init__(self) -> None:
        self.trouble = ""

    @asynccontextmanager
    async def watching(self, executor: Executor) -> AsyncIterator[None]:
        """Keep asking while the context is open."""
        await self._ask(executor)
        asking = asyncio.create_task(self._keep_asking(executor), name="crucible-condition")
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _keep_asking(self, executor: Executor) -> None:
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            await self._ask(executor)

    async def _ask(self, executor: Executor) -> None:
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

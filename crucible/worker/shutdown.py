"""Stopping a worker: claim no more first, send what is left last."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from crucible.errors import BrokerError
from crucible.worker.consumer import PATIENCE_S

if TYPE_CHECKING:
    from crucible.worker.parts import Parts
    from crucible.worker.supervisor import Supervisor

logger = logging.getLogger(__name__)

#: Seconds a forced stop may take in all.
_FORCED_S = 3.0


class Shutdown:
    """Stops a worker, once.

    Args:
        supervisor: keeps the loops.
        parts: the worker's parts.
    """

    def __init__(self, supervisor: Supervisor, parts: Parts) -> None:
        self._supervisor = supervisor
        self._parts = parts
        self._begun = False
        self._forced = asyncio.Event()

    async def wait(
        self, stop: asyncio.Event, force: asyncio.Event | None, deadline_s: float
    ) -> None:
        """Wait for ``stop`` or a shutdown command, then drain; ``force`` cuts that short.

        Raises:
            WorkerFailed: a loop could not be kept alive.
        """
        failed = asyncio.create_task(self._supervisor.failed())
        stopped = asyncio.create_task(stop.wait())
        commanded = asyncio.create_task(self._parts.node.stop_asked.wait())
        forced = asyncio.create_task((force or asyncio.Event()).wait())
        drained: asyncio.Task[None] | None = None
        try:
            await asyncio.wait([failed, stopped, commanded], return_when=asyncio.FIRST_COMPLETED)
            drained = asyncio.create_task(self.drain(deadline_s))
            await asyncio.wait([drained, forced], return_when=asyncio.FIRST_COMPLETED)
            if not drained.done():
                self._forced.set()
                # Here too: the drain may not have come to its wait yet.
                self._parts.slots.requeue_running()
                await asyncio.wait([drained], timeout=_FORCED_S)
            if drained.done():
                drained.result()
            if failed.done():
                failed.result()
        finally:
            tasks = [failed, stopped, commanded, forced, *([] if drained is None else [drained])]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def drain(self, deadline_s: float) -> None:
        """Claim no more, give back what was not started, let the rest end.

        What still runs after ``deadline_s`` seconds is cancelled and requeued.
        """
        if self._begun:
            return
        self._begun = True
        parts = self._parts
        logger.info(
            "stopping: %d tasks run, and have %g s to end", len(parts.slots.running), deadline_s
        )
        await parts.consumer.stop()
        await self._supervisor.stop("consumer")
        await parts.consumer.requeue([*parts.rates.take_all(), *parts.slots.take_waiting()])
        if not await self._idle_within(deadline_s):
            await self._requeue_running()
        await self._flush(_FORCED_S - PATIENCE_S if self._forced.is_set() else deadline_s)

    async def _idle_within(self, deadline_s: float) -> bool:
        """Whether everything that runs has ended, in time and before the stop was forced."""
        idle = asyncio.create_task(self._parts.slots.wait_until_idle())
        forced = asyncio.create_task(self._forced.wait())
        try:
            await asyncio.wait(
                [idle, forced], timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED
            )
            return idle.done()
        finally:
            for task in (idle, forced):
                task.cancel()
            await asyncio.wait([idle, forced])

    async def _requeue_running(self) -> None:
        slots = self._parts.slots
        slots.requeue_running()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await slots.wait_until_idle()
        except TimeoutError:
            # Plain functions in threads, say; their messages are recovered once this process ended.
            logger.warning("%d tasks cannot be stopped", len(slots.running))

    async def _flush(self, deadline_s: float) -> None:
        parts = self._parts
        try:
            async with asyncio.timeout(max(1.0, deadline_s)):
                await parts.writer.flushed()
                await parts.node.leave()
                if not parts.unsettled:
                    # Renewal first, or it would write the heartbeat again that ``leave`` deletes.
                    await self._supervisor.stop("lease")
                    await parts.claims.leave()
        except (TimeoutError, BrokerError) as error:
            # Other workers recover the claims that stay once the heartbeat has run out.
            reason = str(error) or "they were not taken in time"
            logger.warning("stopping with results unwritten: %s", reason)

"""The last step of a migration: nothing new for the legacy queue, and wait until it is empty."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crucible.errors import SettingsError
from crucible.migration.operations.verify import verify
from crucible.migration.state import Change

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.legacy import QueueStats
    from crucible.migration.operations.sides import Sides

#: Seconds in which every api process has seen a change of the switches.
SPREAD_S = 1.0
#: Seconds between two polls.
POLL_S = 0.5


async def drain(
    sides: Sides, timeout_s: float, *, by: str, reason: str, report: Callable[[QueueStats], None]
) -> bool:
    """Send everything to Celery, close the legacy queue, wait until it is empty, keep all results.

    Args:
        sides: both queue systems.
        timeout_s: seconds to wait for what is left.
        by: who asks for it.
        reason: why.
        report: called with the stats at each poll.

    Returns:
        Whether the legacy queue is empty.

    Raises:
        SettingsError: there is no legacy queue.
        BrokerError: the task queue server does not answer; nothing was changed then.
        LegacyError: the legacy queue does not answer.
    """
    if sides.legacy is None:
        raise SettingsError("QUEUE_SERVICE_URL", "is missing; there is nothing to drain")
    await sides.switches.change(
        Change(
            celery_enabled=True,
            celery_percentage=1.0,
            dual_write=False,
            force_legacy_queue=False,
            by=by,
            reason=reason,
        )
    )
    # Closed before every process has the new switches, the queue would refuse their submissions.
    await asyncio.sleep(SPREAD_S)
    await sides.legacy.drain(True)
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        stats = await sides.legacy.stats()
        report(stats)
        if stats.queued + stats.running == 0:
            # Keeps all results, so that the queue may be switched off now.
            await verify(sides)
            return True
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(POLL_S)

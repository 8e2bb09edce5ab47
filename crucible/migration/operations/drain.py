"""The last step off the legacy queue: nothing new to it, and the rest let finish."""

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
#: Seconds between two looks at what is left.
LOOK_S = 0.5


async def drain(
    sides: Sides, timeout_s: float, *, by: str, reason: str, tell: Callable[[QueueStats], None]
) -> bool:
    """Send everything to Celery, close the legacy queue, wait until it is empty, keep all ends.

    Args:
        sides: both sides.
        timeout_s: seconds to wait for what is left.
        by: who asks for it.
        reason: why.
        tell: told what is left at each look.

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
    # Refusing before every process knows would turn clients away.
    await asyncio.sleep(SPREAD_S)
    await sides.legacy.drain(True)
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        stats = await sides.legacy.stats()
        tell(stats)
        if stats.queued + stats.running == 0:
            # Whoever switches the queue off now must not take ends with it that nobody asked for.
            await verify(sides)
            return True
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(LOOK_S)

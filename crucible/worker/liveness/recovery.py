"""Giving back the claims of dead workers.

Every worker sweeps; a mark on the server lets one of them through per ``SWEEP_S``. What a sweep
does is in ``broker/claiming/recovery``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crucible.broker.claiming.recovery.sweeper import SWEEP_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.broker.claiming.recovery.sweeper import Sweeper


class Recovery:
    """Sweeps again and again.

    Args:
        sweeper: gives back what dead workers held.
    """

    def __init__(self, sweeper: Sweeper) -> None:
        self._sweeper = sweeper

    async def run(self, beat: Callable[[], None]) -> None:
        """Sweep until cancelled.

        Raises:
            BrokerError: the server is gone or refuses; run again.
        """
        while True:
            await self._sweeper.sweep()
            beat()
            await asyncio.sleep(SWEEP_S)

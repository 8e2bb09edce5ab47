"""Delayed messages: parked in ``unacked`` until they are due, held in no worker's memory.

Their score is eta minus the visibility timeout, so that a stock worker's own sweep would hand
them back when due; ours does so on time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crucible.broker.claiming.claims import DELAYED_PREFIX
from crucible.redis_keys import SEP, Keys

if TYPE_CHECKING:
    from crucible.broker.redis.atomic import Steps
    from crucible.broker.redis.clock import ServerClock

logger = logging.getLogger(__name__)

#: Rows looked at by one script call, which holds up the server for about a millisecond.
_LIMIT = 500


class DueMessages:
    """Moves delayed messages to their lists when their time has come.

    Args:
        steps: atomic steps on the queue server.
        keys: key names.
        visibility_timeout_s: as stock workers on the same server have it.
        clock: learns the server's time.
    """

    def __init__(
        self, steps: Steps, keys: Keys, visibility_timeout_s: float, clock: ServerClock
    ) -> None:
        self._steps = steps
        self._keys = keys
        self._visibility_timeout_s = visibility_timeout_s
        self._clock = clock

    async def move(self) -> tuple[float | None, list[tuple[str, str]]]:
        """Move all that is due.

        Returns:
            When to look again, seconds since the epoch on the server's clock (None: nothing is
            parked), and fields with scores of claims as old as the visibility timeout, which
            are the sweeper's.

        Raises:
            BrokerError: the server did not do it.
        """
        while True:
            reply = await self._steps.run(
                "due",
                [self._keys.unacked, self._keys.unacked_index],
                [str(self._visibility_timeout_s), _LIMIT, self._keys.prefix, SEP, DELAYED_PREFIX],
            )
            self._clock.observe(reply[0], reply[1])
            if reply[4]:
                logger.error(
                    "%d delayed messages wait on: the keys of their queues are no lists", reply[4]
                )
            rows = [value.decode() for value in reply[5:]]
            stale = list(zip(rows[::2], rows[1::2], strict=True))
            if reply[2] + reply[4] < _LIMIT or stale:
                break
        first = float(reply[3]) + self._visibility_timeout_s if reply[3] else None
        return first, stale

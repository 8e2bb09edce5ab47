"""Delayed messages: they wait in ``unacked`` until they are due, in no worker's memory.

Their score is eta minus the visibility timeout, so that a stock worker's own sweep would put
them back when due; ours does so on time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from crucible.redis_keys import DELAYED_PREFIX, Keys

if TYPE_CHECKING:
    from crucible.broker.redis.clock import ServerClock
    from crucible.broker.redis.commands import Commands
    from crucible.broker.redis.recovery_store import RecoveryStore

logger = logging.getLogger(__name__)

#: Rows looked at by one script call, which holds up the server for about a millisecond.
_LIMIT = 500
#: Fields listed by one command, and commands at most: a listing must not read a million claims.
_SCAN_ROWS, _SCAN_STEPS = 1000, 50
#: A claim is ``[<message>, "<exchange>", "<routing key>"]``.
_START = b"["


class DueMessages:
    """Moves delayed messages to their lists when they are due.

    Args:
        store: atomic operations on the queue server.
        keys: key names.
        visibility_timeout_s: as stock workers on the same server have it.
        clock: learns the server's time.
    """

    def __init__(
        self, store: RecoveryStore, keys: Keys, visibility_timeout_s: float, clock: ServerClock
    ) -> None:
        self._store = store
        self._keys = keys
        self._visibility_timeout_s = visibility_timeout_s
        self._clock = clock

    async def move(self) -> tuple[float | None, list[tuple[str, str]]]:
        """Move all that is due.

        Returns:
            When to look again, seconds since the epoch on the server's clock (None: nothing is
            delayed), and fields with scores of claims as old as the visibility timeout, which
            are left to recovery.

        Raises:
            BrokerError: some of it may have been moved.
        """
        while True:
            reply = await self._store.release_due(self._keys, self._visibility_timeout_s, _LIMIT)
            self._clock.observe(reply.server_time)
            if reply.refused:
                logger.error(
                    "%d delayed messages wait on: the keys of their queues are not lists",
                    reply.refused,
                )
            if reply.moved + reply.refused < _LIMIT or reply.stale:
                break
        earliest = reply.earliest_score
        first = None if earliest is None else earliest + self._visibility_timeout_s
        return first, list(reply.stale)


async def delayed_messages(store: Commands, keys: Keys, limit: int) -> list[bytes]:
    """Up to ``limit`` delayed messages, in no order; they stay where they are.

    Raises:
        BrokerError: the server could not be asked.
    """
    found: dict[bytes, bytes] = {}
    cursor: Any = 0
    for _ in range(_SCAN_STEPS):
        cursor, pairs = await store.command(
            "HSCAN", keys.unacked, cursor, "MATCH", f"{DELAYED_PREFIX}*", "COUNT", _SCAN_ROWS
        )
        # A scan may show a field twice.
        found.update(zip(pairs[::2], pairs[1::2], strict=True))
        if int(cursor) == 0 or len(found) >= limit:
            break
    return [_message_of(value) for value in list(found.values())[:limit]]


def _message_of(claim: bytes) -> bytes:
    """The message's own bytes: two short strings follow it, and neither holds ``, "``."""
    return claim.removeprefix(_START).rsplit(b', "', 2)[0].strip()

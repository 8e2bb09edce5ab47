"""Looking at delayed messages without moving them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.claims import DELAYED_PREFIX

if TYPE_CHECKING:
    from crucible.broker.redis.atomic import Steps
    from crucible.redis_keys import Keys

#: Fields looked at by one command, and commands at most: a look must not read a million claims.
_COUNT, _ROUNDS = 1000, 50
#: A claim is ``[<message>, "<exchange>", "<routing key>"]``.
_START = b"["


async def parked_messages(steps: Steps, keys: Keys, limit: int) -> list[bytes]:
    """Up to ``limit`` delayed messages, in no order.

    Raises:
        BrokerError: the server did not tell.
    """
    found: dict[bytes, bytes] = {}
    cursor: Any = 0
    for _ in range(_ROUNDS):
        cursor, pairs = await steps.command(
            "HSCAN", keys.unacked, cursor, "MATCH", f"{DELAYED_PREFIX}*", "COUNT", _COUNT
        )
        # A scan may show a field twice.
        found.update(zip(pairs[::2], pairs[1::2], strict=True))
        if int(cursor) == 0 or len(found) >= limit:
            break
    return [_message_of(value) for value in list(found.values())[:limit]]


def _message_of(claim: bytes) -> bytes:
    """The message's own bytes: two short strings follow it, and neither holds ``, "``."""
    return claim.removeprefix(_START).rsplit(b', "', 2)[0].strip()

"""All atomic operations, as transactions."""

from __future__ import annotations

from crucible.broker.redis.without_lua.claims import TransactionClaims
from crucible.broker.redis.without_lua.effects import TransactionEffects
from crucible.broker.redis.without_lua.recovery import TransactionRecovery


class TransactionStore(TransactionClaims, TransactionRecovery, TransactionEffects):
    """A ``RedisStore`` of WATCH and MULTI, and stock's blocking pop.

    For servers that refuse scripts, and as the measured comparison.

    Args:
        client: of the server; replies are bytes.
    """

"""All atomic operations, as scripts."""

from __future__ import annotations

from crucible.broker.redis.with_lua.claims import LuaClaims
from crucible.broker.redis.with_lua.effects import LuaEffects
from crucible.broker.redis.with_lua.recovery import LuaRecovery


class LuaStore(LuaClaims, LuaRecovery, LuaEffects):
    """A ``RedisStore`` whose operations are the scripts in ``broker/lua/``.

    Args:
        client: of the server; replies are bytes.
    """

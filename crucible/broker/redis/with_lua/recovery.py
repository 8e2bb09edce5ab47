"""Recovery and delayed messages, as scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.redis.recovery_store import (
    REFUSED_PAUSE_S,
    DueReleased,
    RestoreStatus,
    StraysIndexed,
    SweepBegun,
)
from crucible.broker.redis.scripts import script
from crucible.broker.redis.with_lua.key_positions import KeyPositions
from crucible.broker.redis.with_lua.runner import ScriptRunner, server_time
from crucible.redis_keys import DEAD_LETTER_LIMIT, DELAYED_PREFIX, FENCE_TTL_S, SEP, SWEEP_TTL_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.recovery_store import RestoreRow, SweepMark
    from crucible.redis_keys import Keys


class LuaRecovery(ScriptRunner):
    """See ``RecoveryStore``."""

    async def release_due(self, keys: Keys, visibility_timeout_s: float, limit: int) -> DueReleased:
        """``release_due.lua``."""
        reply = await self._run(
            script("release_due"),
            [keys.unacked, keys.unacked_index],
            [str(visibility_timeout_s), limit, keys.prefix, SEP, DELAYED_PREFIX, REFUSED_PAUSE_S],
        )
        _, _, moved, earliest, refused, *flat = reply
        rows = [value.decode() for value in flat]
        return DueReleased(
            server_time(reply),
            moved,
            refused,
            float(earliest) if earliest else None,
            list(zip(rows[::2], rows[1::2], strict=True)),
        )

    async def restore(
        self, keys: Keys, rows: Sequence[RestoreRow], ttl_s: int
    ) -> list[RestoreStatus]:
        """``restore.lua``."""
        positions = KeyPositions(keys.unacked, keys.unacked_index)
        at = positions.at
        args: list[Any] = [ttl_s, DEAD_LETTER_LIMIT, FENCE_TTL_S]
        for row in rows:
            owner = row.owner
            more: list[Any] = [*row.letter] or [at(other) for other in row.others]
            args += (
                row.field, row.score,
                at(keys.worker(owner) if owner else ""), at(keys.fence(owner) if owner else ""),
                "dead_letter" if row.letter else "list", at(row.target), row.raw,
                at(row.result_key), row.meta, len(more), *more,
            )  # fmt: skip
        reply = await self._run(script("restore"), positions.keys, args)
        return [RestoreStatus(status) for status in reply]

    async def begin_sweep(self, keys: Keys, mark: SweepMark) -> SweepBegun:
        """``begin_sweep.lua``."""
        reply = await self._run(
            script("begin_sweep"), [keys.sweep, keys.workers], [mark.value, SWEEP_TTL_MS]
        )
        return SweepBegun(server_time(reply), reply[2].decode(), bool(reply[3]))

    async def index_strays(self, keys: Keys, cursor: int, scan_rows: int) -> StraysIndexed:
        """``index_strays.lua``."""
        reply = await self._run(
            script("index_strays"), [keys.unacked, keys.unacked_index], [cursor, scan_rows]
        )
        return StraysIndexed(int(reply[0]), reply[1])

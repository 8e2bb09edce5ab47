"""The life of claims, as scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.redis.claim_store import (
    Claimed,
    Delayed,
    Destination,
    Renewed,
    ResultsSettled,
)
from crucible.broker.redis.scripts import script
from crucible.broker.redis.with_lua.runner import ScriptRunner, server_time
from crucible.redis_keys import DEAD_LETTER_LIMIT, WORKER_TTL_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.claim_store import DelayRow, MessageSettlement
    from crucible.redis_keys import Keys


class LuaClaims(ScriptRunner):
    """See ``ClaimStore``."""

    async def claim(
        self,
        keys: Keys,
        *,
        field_prefix: str,
        last_number: int,
        limit: int,
        limit_when_full: int,
        lists: Sequence[str],
        queue_names: Sequence[str],
    ) -> Claimed:
        """``claim.lua``."""
        reply = await self._run(
            script("claim"),
            [keys.unacked, keys.unacked_index, keys.dlq, *lists],
            [
                field_prefix,
                last_number,
                limit,
                DEAD_LETTER_LIMIT,
                min(limit, limit_when_full),
                *queue_names,
            ],
            long_reply=True,
        )
        _, _, dead_letters, is_full, *claimed = reply
        return Claimed(server_time(reply), dead_letters, bool(is_full), claimed[::2], claimed[1::2])

    async def settle_results(
        self,
        keys: Keys,
        fields: Sequence[str],
        result_keys: Sequence[str],
        metas: Sequence[bytes],
        ttl_s: int,
    ) -> ResultsSettled:
        """``settle_results.lua``."""
        reply = await self._run(
            script("settle_results"),
            [keys.unacked, keys.unacked_index, *result_keys],
            [ttl_s, len(fields), *fields, *metas],
        )
        return ResultsSettled(*reply)

    async def settle_message(
        self, keys: Keys, settled: MessageSettlement, visibility_timeout_s: float, ttl_s: int
    ) -> bool:
        """``settle_message.lua``."""
        names = [keys.unacked, keys.unacked_index, settled.target]
        if settled.result_key:
            names.append(settled.result_key)
        more: list[Any] = []
        if settled.delayed is not None:
            field, eta, queue_name = settled.delayed
            more = [field, f"{eta:.6f}", str(visibility_timeout_s), queue_name]
        elif settled.destination is Destination.DEAD_LETTERS:
            more = [DEAD_LETTER_LIMIT, *settled.letter]
        ours = await self._run(
            script("settle_message"),
            names,
            [settled.field, settled.destination.value, settled.raw, settled.meta, ttl_s, *more],
        )
        return bool(ours)

    async def delay(
        self, keys: Keys, rows: Sequence[DelayRow], visibility_timeout_s: float
    ) -> Delayed:
        """``delay.lua``."""
        args = [str(visibility_timeout_s)]
        for row in rows:
            args += (row.field, row.delayed_field, f"{row.eta:.6f}")
        reply = await self._run(script("delay"), [keys.unacked, keys.unacked_index], args)
        return Delayed(server_time(reply), [field.decode() for field in reply[2:]])

    async def requeue(self, keys: Keys, rows: Sequence[tuple[str, str]]) -> int:
        """``requeue.lua``."""
        lists: dict[str, int] = {}
        args: list[Any] = []
        for field, list_key in rows:
            args += (field, lists.setdefault(list_key, len(lists) + 1))
        ours: int = await self._run(
            script("requeue"), [keys.unacked, keys.unacked_index, *lists], args
        )
        return ours

    async def renew(
        self, keys: Keys, worker_id: str, heartbeat: str, fields: Sequence[str]
    ) -> Renewed:
        """``renew.lua``."""
        reply = await self._run(
            script("renew"),
            [keys.unacked_index, keys.worker(worker_id), keys.fence(worker_id), keys.workers],
            [heartbeat, round(WORKER_TTL_S), worker_id, *fields],
        )
        missing = [field.decode() for field in reply[3:]]
        return Renewed(server_time(reply), reply[2] == 1, missing)

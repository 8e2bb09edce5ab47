"""Recovery and delayed messages, as transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.redis.recovery_store import (
    REFUSED_PAUSE_S,
    DueReleased,
    RestoreStatus,
    StraysIndexed,
    SweepBegun,
    SweepMark,
)
from crucible.broker.redis.without_lua.watched import (
    TransactionClient,
    add_dead_letter,
    has_ended,
    pairs,
    seconds_of,
    store_result,
    watched,
)
from crucible.broker.wire import claim_value
from crucible.redis_keys import DELAYED_PREFIX, FENCE_TTL_S, SWEEP_TTL_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.recovery_store import RestoreRow
    from crucible.redis_keys import Keys


class TransactionRecovery(TransactionClient):
    """See ``RecoveryStore``."""

    async def release_due(self, keys: Keys, visibility_timeout_s: float, limit: int) -> DueReleased:
        """See ``release_due.lua``; each message is a transaction."""
        async with self._bounded():
            now = seconds_of(await self._redis.time())
            latest = now - visibility_timeout_s
            rows = await self._redis.zrangebyscore(
                keys.unacked_index, "-inf", latest, 0, limit, withscores=True
            )
            moved, refused, stale = 0, 0, []
            for raw_field, score in reversed(rows):
                field = raw_field.decode()
                list_key = await self._list_of(keys, field)
                if list_key is None:
                    stale.append((field, repr(score)))
                elif list_key and await self._redis.type(list_key) not in (b"none", b"list"):
                    await self._redis.zadd(keys.unacked_index, {field: latest + REFUSED_PAUSE_S})
                    refused += 1
                else:
                    moved += await self._release(keys, field, list_key)
            first = await self._redis.zrange(keys.unacked_index, 0, 0, withscores=True)
            return DueReleased(now, moved, refused, first[0][1] if first else None, stale)

    async def _list_of(self, keys: Keys, field: str) -> str | None:
        """Where a delayed message goes; empty for one that is gone, None for none of ours."""
        if not field.startswith(DELAYED_PREFIX):
            return None
        step = field.removeprefix(DELAYED_PREFIX).partition("|")[0]
        value = await self._redis.hget(keys.unacked, field)
        if value is None:
            return ""
        try:
            _, queue = claim_value.split(value)
            return keys.step_list(queue, int(step))
        except ValueError:
            return None

    async def _release(self, keys: Keys, field: str, list_key: str) -> int:
        async def body(pipe: Any) -> int:
            value = await pipe.hget(keys.unacked, field)
            pipe.multi()
            if value is not None:
                pipe.rpush(list_key, claim_value.split(value)[0])
            pipe.hdel(keys.unacked, field)
            pipe.zrem(keys.unacked_index, field)
            return int(value is not None)

        return int(await watched(self._redis, keys.unacked, body))

    async def restore(
        self, keys: Keys, rows: Sequence[RestoreRow], ttl_s: int
    ) -> list[RestoreStatus]:
        """See ``restore.lua``; each claim is a transaction."""
        async with self._bounded() as deadline:
            deadline.sending(sum(len(row.raw) + len(row.meta) for row in rows))
            return [await self._restore(keys, row, ttl_s) for row in rows]

    async def _restore(self, keys: Keys, row: RestoreRow, ttl_s: int) -> RestoreStatus:
        if not await self._is_accepted(row):
            if not row.owner:  # tried again after the visibility timeout
                now = seconds_of(await self._redis.time())
                await self._redis.zadd(keys.unacked_index, {row.field: now}, xx=True)
            return RestoreStatus.REFUSED

        async def body(pipe: Any) -> RestoreStatus:
            if row.owner and await pipe.exists(keys.worker(row.owner)):
                return RestoreStatus.NOT_LOST
            if not row.owner and await pipe.zscore(keys.unacked_index, row.field) != float(
                row.score
            ):
                return RestoreStatus.NOT_LOST
            if not await pipe.hexists(keys.unacked, row.field):
                return RestoreStatus.NOT_LOST
            store = bool(row.meta) and not await has_ended(self._redis, row.result_key, row.meta)
            pipe.multi()
            _place(pipe, row)
            if store:
                store_result(pipe, row.result_key, row.meta, ttl_s)
            if row.owner:
                pipe.set(keys.fence(row.owner), 1, ex=FENCE_TTL_S)
            pipe.hdel(keys.unacked, row.field)
            pipe.zrem(keys.unacked_index, row.field)
            return RestoreStatus.TAKEN

        return RestoreStatus(await watched(self._redis, keys.unacked, body))

    async def _is_accepted(self, row: RestoreRow) -> bool:
        """Whether all keys it is to go to are of the right type."""
        kind = b"stream" if row.letter else b"list"
        targets = [row.target, *row.others]
        return all([await self._redis.type(key) in (b"none", kind) for key in targets])

    async def begin_sweep(self, keys: Keys, mark: SweepMark) -> SweepBegun:
        """See ``begin_sweep.lua``."""
        async with self._bounded():
            await self._redis.zrem(keys.workers, "")
            now = seconds_of(await self._redis.time())
            run_id = (await self._redis.info("server")).get("run_id", "")
            ours = mark is not SweepMark.LOOK and await self._redis.set(
                keys.sweep, 1, nx=mark is SweepMark.BEGIN, px=SWEEP_TTL_MS
            )
            return SweepBegun(now, run_id, bool(ours))

    async def index_strays(self, keys: Keys, cursor: int, scan_rows: int) -> StraysIndexed:
        """See ``index_strays.lua``."""
        async with self._bounded():
            now = seconds_of(await self._redis.time())
            strays = 0
            cursor, page = await self._redis.hscan(keys.unacked, cursor, count=scan_rows)
            for field in page:
                if await self._redis.zadd(keys.unacked_index, {field: now}, nx=True):
                    # A claim settled since the scan saw it must not keep a row for ever.
                    if await self._redis.hexists(keys.unacked, field):
                        strays += 1
                    else:
                        await self._redis.zrem(keys.unacked_index, field)
            return StraysIndexed(cursor, strays)


def _place(pipe: Any, row: RestoreRow) -> None:
    """Queue writing a message into its lists, or as a dead letter."""
    if row.letter:
        add_dead_letter(pipe, row.target, {"raw": row.raw, **pairs(row.letter)})
        return
    for target in (row.target, *row.others):
        pipe.rpush(target, row.raw)

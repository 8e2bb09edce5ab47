"""The life of claims, as transactions.

Two operations are as stock has them and no better: a message popped by a process that dies before
it records it is lost, and two workers that end the same task at the same moment may both store.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.claim_store import (
    Claimed,
    Delayed,
    Destination,
    Renewed,
    ResultsSettled,
)
from crucible.broker.redis.without_lua.watched import (
    TransactionClient,
    add_dead_letter,
    has_ended,
    pairs,
    seconds_of,
    store_result,
    to_bytes,
    watched,
)
from crucible.broker.wire import claim_value
from crucible.redis_keys import WORKER_TTL_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.claim_store import DelayRow, MessageSettlement
    from crucible.redis_keys import Keys

#: Seconds BRPOP waits, as stock has it.
_BLOCK_S = 1


class TransactionClaims(TransactionClient):
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
        """One message at most, whatever ``limit`` is; see ``claim.lua``.

        A message that was popped cannot be recorded while the server takes no writes, so that is
        found out before; what fills its memory in the second of the pop may still lose one.
        """
        async with self._bounded():
            await self._redis.zadd(keys.unacked_index, {"": 0}, xx=True)
            popped = await self._redis.brpop(lists, timeout=_BLOCK_S)
            if popped is None:
                return Claimed(seconds_of(await self._redis.time()), 0, False, [], [])
            list_key, raw = popped
            number = [to_bytes(key) for key in lists].index(list_key)
            queue_name = queue_names[number]
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.time()
                is_garbage = not claim_value.is_restorable(raw)
                if is_garbage:
                    add_dead_letter(pipe, keys.dlq, {
                        "raw": raw, "queue": json.loads(queue_name), "reason": "unreadable",
                        "detail": "not a message stock workers could restore", "at": time.time(),
                    })  # fmt: skip
                else:
                    field = f"{field_prefix}{last_number + 1}"
                    pipe.zadd(keys.unacked_index, {field: time.time()})
                    pipe.hset(keys.unacked, field, claim_value.join(raw, queue_name))
                now, *_ = await pipe.execute()
            if is_garbage:
                return Claimed(seconds_of(now), 1, False, [], [])
            return Claimed(seconds_of(now), 0, False, [number + 1], [raw])

    async def settle_results(
        self,
        keys: Keys,
        fields: Sequence[str],
        result_keys: Sequence[str],
        metas: Sequence[bytes],
        ttl_s: int,
    ) -> ResultsSettled:
        """See ``settle_results.lua``."""
        async with self._bounded() as deadline:
            deadline.sending(sum(map(len, metas)))
            stored = 0
            async with self._redis.pipeline(transaction=True) as pipe:
                for key, meta in zip(result_keys, metas, strict=True):
                    if not await has_ended(self._redis, key, meta):
                        store_result(pipe, key, meta, ttl_s)
                        stored += 1
                if fields:
                    pipe.zrem(keys.unacked_index, *fields)
                    pipe.hdel(keys.unacked, *fields)
                replies = await pipe.execute()
            return ResultsSettled(replies[-1] if fields else 0, stored)

    async def settle_message(
        self, keys: Keys, settled: MessageSettlement, visibility_timeout_s: float, ttl_s: int
    ) -> bool:
        """See ``settle_message.lua``."""

        async def body(pipe: Any) -> bool:
            if not await pipe.hexists(keys.unacked, settled.field):
                return False
            key, meta = settled.result_key, settled.meta
            store = bool(meta) and not await has_ended(self._redis, key, meta)
            now = seconds_of(await pipe.time()) if settled.delayed is not None else 0.0
            pipe.multi()
            _send_on(pipe, keys, settled, visibility_timeout_s, now)
            if store:
                store_result(pipe, settled.result_key, settled.meta, ttl_s)
            pipe.hdel(keys.unacked, settled.field)
            pipe.zrem(keys.unacked_index, settled.field)
            return True

        async with self._bounded() as deadline:
            deadline.sending(len(settled.raw) + len(settled.meta))
            return bool(await watched(self._redis, keys.unacked, body))

    async def delay(
        self, keys: Keys, rows: Sequence[DelayRow], visibility_timeout_s: float
    ) -> Delayed:
        """See ``delay.lua``; each claim is a transaction."""
        async with self._bounded():
            now = seconds_of(await self._redis.time())
            due = [row.field for row in rows if row.eta <= now]
            for row in rows:
                if row.eta > now:
                    await self._delay(keys, row, visibility_timeout_s)
            return Delayed(now, due)

    async def _delay(self, keys: Keys, row: DelayRow, visibility_timeout_s: float) -> None:
        async def body(pipe: Any) -> None:
            value = await pipe.hget(keys.unacked, row.field)
            pipe.multi()
            if value is not None:
                pipe.hset(keys.unacked, row.delayed_field, value)
                pipe.zadd(keys.unacked_index, {row.delayed_field: row.eta - visibility_timeout_s})
                pipe.hdel(keys.unacked, row.field)
            pipe.zrem(keys.unacked_index, row.field)

        await watched(self._redis, keys.unacked, body)

    async def requeue(self, keys: Keys, rows: Sequence[tuple[str, str]]) -> int:
        """See ``requeue.lua``; each claim is a transaction."""
        async with self._bounded():
            return sum([await self._requeue(keys, field, list_key) for field, list_key in rows])

    async def _requeue(self, keys: Keys, field: str, list_key: str) -> int:
        async def body(pipe: Any) -> int:
            value = await pipe.hget(keys.unacked, field)
            pipe.multi()
            if value is not None:
                pipe.rpush(list_key, claim_value.split(value)[0])
                pipe.hdel(keys.unacked, field)
            pipe.zrem(keys.unacked_index, field)
            return int(value is not None)

        return int(await watched(self._redis, keys.unacked, body))

    async def renew(
        self, keys: Keys, worker_id: str, heartbeat: str, fields: Sequence[str]
    ) -> Renewed:
        """See ``renew.lua``."""
        async with self._bounded():
            now = seconds_of(await self._redis.time())
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(keys.worker(worker_id), heartbeat, ex=round(WORKER_TTL_S))
                pipe.zadd(keys.workers, {worker_id: now})
                pipe.exists(keys.fence(worker_id))
                for field in fields:
                    pipe.zscore(keys.unacked_index, field)
                    pipe.zadd(keys.unacked_index, {field: now}, xx=True)
                _, _, fenced, *replies = await pipe.execute()
        scores = replies[::2]
        missing = [field for field, score in zip(fields, scores, strict=True) if score is None]
        return Renewed(now, bool(fenced), missing)


def _send_on(
    pipe: Any, keys: Keys, settled: MessageSettlement, visibility_timeout_s: float, now: float
) -> None:
    """Queue writing the message to where it goes; ``now`` is the server's time."""
    destination, target, raw = settled.destination, settled.target, settled.raw
    if destination is Destination.QUEUE_HEAD:
        pipe.rpush(target, raw)
    elif settled.delayed is not None and settled.delayed.eta > now:
        field, eta, queue_name = settled.delayed
        pipe.hset(keys.unacked, field, claim_value.join(raw, queue_name))
        pipe.zadd(keys.unacked_index, {field: eta - visibility_timeout_s})
    elif destination is Destination.DEAD_LETTERS:
        add_dead_letter(pipe, target, {"raw": raw, **pairs(settled.letter)})
    else:
        pipe.lpush(target, raw)

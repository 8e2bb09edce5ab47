"""``due``, ``renew``, ``restore`` and ``strays`` as transactions, for servers without scripting.

Answers are those of the scripts of the same names.
"""

from __future__ import annotations

from typing import Any

from crucible.broker.redis.without_lua.watched import (
    has_ended,
    pairs,
    store_result,
    to_bytes,
    watched,
)
from crucible.broker.wire import claim_value

#: Seconds a worker's fence lasts, as in ``restore.lua``.
_FENCE_S = 3600
#: Seconds a delayed message waits that its list refused, as in ``due.lua``.
_AGAIN_S = 60


class UpkeepTransactions:
    """The steps.

    Args:
        client: of the server; answers are bytes.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def due(self, keys: list[Any], args: list[Any]) -> list[Any]:
        """Move delayed messages that are due; see ``due.lua``."""
        unacked, index = keys
        timeout, limit, prefix, separator, delayed = args
        now = await self._client.time()
        rows = await self._client.zrangebyscore(
            index, "-inf", now[0] + now[1] / 1e6 - float(timeout), 0, limit, withscores=True
        )
        moved, refused, stale = 0, 0, []
        for field, score in reversed(rows):
            list_key = None
            if field.startswith(to_bytes(delayed)):
                step = field[len(delayed) :].partition(b"|")[0].decode()
                list_key = await self._list_of(unacked, field, prefix, separator, step)
            if list_key is None:
                stale += [field, to_bytes(repr(score))]
            elif list_key and await self._client.type(list_key) not in (b"none", b"list"):
                again = now[0] + now[1] / 1e6 - float(timeout) + _AGAIN_S
                await self._client.zadd(index, {field: again})
                refused += 1
            else:
                moved += await self._hand_out(unacked, index, field, list_key)
        first = await self._client.zrange(index, 0, 0, withscores=True)
        left = to_bytes(repr(first[0][1])) if first else b""
        return [*now, moved, left, refused, *stale]

    async def _list_of(
        self, unacked: Any, field: bytes, prefix: str, separator: str, step: str
    ) -> str | None:
        """Where a delayed message goes; empty for one that is gone, None for none of ours."""
        value = await self._client.hget(unacked, field)
        if value is None:
            return ""
        try:
            _, queue = claim_value.split(value)
        except ValueError:
            return None
        return f"{prefix}{queue}" if step == "0" else f"{prefix}{queue}{separator}{step}"

    async def _hand_out(self, unacked: Any, index: Any, field: bytes, list_key: str) -> int:
        async def body(pipe: Any) -> int:
            value = await pipe.hget(unacked, field)
            pipe.multi()
            if value is not None:
                pipe.rpush(list_key, claim_value.split(value)[0])
            pipe.hdel(unacked, field)
            pipe.zrem(index, field)
            return int(value is not None)

        return int(await watched(self._client, unacked, body))

    async def renew(self, keys: list[Any], args: list[Any]) -> list[Any]:
        """Show life; see ``renew.lua``."""
        index, sign, fence, workers = keys
        name, ttl, worker_id, *fields = args
        now = await self._client.time()
        at = now[0] + now[1] / 1e6
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.set(sign, name, ex=ttl)
            pipe.zadd(workers, {worker_id: at})
            pipe.exists(fence)
            for field in fields:
                pipe.zscore(index, field)
                pipe.zadd(index, {field: at}, xx=True)
            answers = await pipe.execute()
        gone = [field for field, score in zip(fields, answers[3::2], strict=True) if score is None]
        return [*now, answers[2], *map(to_bytes, gone)]

    async def restore(self, keys: list[Any], args: list[Any]) -> list[int]:
        """Take claims away; see ``restore.lua``."""
        ttl, limit, *rest = args
        out, at = [], 0
        while at < len(rest):
            width = 10 + int(rest[at + 9])
            out.append(await self._restore_one(keys, ttl, limit, rest[at : at + width]))
            at += width
        return out

    async def _restore_one(self, keys: list[Any], ttl: Any, limit: Any, row: list[Any]) -> int:
        unacked, index, *_ = keys
        field, score, sign, fence, how, where, raw, result, meta, _, *more = row
        targets = [keys[where - 1], *([keys[at - 1] for at in more] if how == "list" else [])]
        if not await self._take(targets, b"list" if how == "list" else b"stream"):
            if not sign:  # tried again after the visibility timeout
                now = await self._client.time()
                await self._client.zadd(index, {field: now[0] + now[1] / 1e6}, xx=True)
            return -1

        async def body(pipe: Any) -> int:
            if sign and await pipe.exists(keys[sign - 1]):
                return 0
            if not sign and await pipe.zscore(index, field) != float(score):
                return 0
            if not await pipe.hexists(unacked, field):
                return 0
            new = bool(meta) and not await has_ended(self._client, keys[result - 1])
            pipe.multi()
            _place(pipe, targets, raw, None if how == "list" else pairs(more), limit)
            if new:
                store_result(pipe, keys[result - 1], meta, ttl)
            if fence:
                pipe.set(keys[fence - 1], 1, ex=_FENCE_S)
            pipe.hdel(unacked, field)
            pipe.zrem(index, field)
            return 1

        return int(await watched(self._client, unacked, body))

    async def _take(self, targets: list[Any], kind: bytes) -> bool:
        """Whether all keys take what is to go there."""
        return all([await self._client.type(key) in (b"none", kind) for key in targets])

    async def strays(self, keys: list[Any], args: list[Any]) -> int:
        """Give claims without a row one; see ``strays.lua``."""
        unacked, index = keys
        now = await self._client.time()
        strays = 0
        async for field, _ in self._client.hscan_iter(unacked, count=args[0]):
            if await self._client.zadd(index, {field: now[0] + now[1] / 1e6}, nx=True):
                # A claim that ended since the scan saw it must not keep a row that nobody takes.
                if await self._client.hexists(unacked, field):
                    strays += 1
                else:
                    await self._client.zrem(index, field)
        return strays


def _place(pipe: Any, targets: list[Any], raw: Any, letter: Any, limit: Any) -> None:
    """Queue writing a message into lists, or as a dead letter."""
    if letter is not None:
        fields = {"raw": raw, **letter}
        pipe.xadd(targets[0], fields, maxlen=limit, approximate=True)
        return
    for target in targets:
        pipe.rpush(target, raw)

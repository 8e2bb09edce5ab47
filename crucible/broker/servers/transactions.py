"""The atomic steps without scripting: WATCH and MULTI, and stock's blocking pop.

For servers that refuse scripts, and as the measured comparison. Two of its steps are as stock has
them and no better: a message popped by a process that dies before it records it is lost, and two
workers that end the same task at the same moment may both store.

Answers are those of the scripts of the same names.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import WatchError

from crucible.broker.results.meta import is_final
from crucible.broker.servers.atomic import one_step
from crucible.broker.servers.canvas_transactions import CanvasTransactions
from crucible.broker.servers.link import Link
from crucible.broker.wire import claim_value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    Argument = bytes | str | int

#: Seconds BRPOP waits, as stock has it.
_BLOCK_S = 1
#: Seconds a worker's fence lasts, as in ``restore.lua``.
_FENCE_S = 3600


class TransactionSteps:
    """Steps as transactions.

    Args:
        client: of the queue server; answers are bytes.
    """

    def __init__(self, client: Redis) -> None:
        # Half of redis-py's commands have no usable annotations.
        self._client: Any = client
        self._link = Link(client)
        canvas = CanvasTransactions(client, self._ended, self._store)
        self._steps: dict[str, Callable[[list[Any], list[Any]], Awaitable[Any]]] = {
            "claim": self._claim,
            "finish": self._finish,
            "settle": self._settle,
            "park": self._park,
            "due": self._due,
            "give_back": self._give_back,
            "renew": self._renew,
            "restore": self._restore,
            "strays": self._strays,
            "conclude": canvas.conclude,
            "chord_part": canvas.chord_part,
        }

    async def run(self, name: str, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        """Run one step; see ``atomic.Steps``."""
        async with one_step(self._client):
            return await self._steps[name](list(keys), list(args))

    async def command(self, *command: Argument) -> Any:
        """Run one plain command; see ``atomic.Steps``."""
        async with one_step(self._client):
            return await self._link.call(*command)

    async def _watched(self, key: Any, body: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run ``body`` on a pipeline that watches ``key`` until nobody interferes.

        ``body`` reads, calls ``multi``, queues its writes and returns the answer; where it does
        not call ``multi`` nothing is written.
        """
        while True:
            async with self._client.pipeline(transaction=True) as pipe:
                try:
                    await pipe.watch(key)
                    answer = await body(pipe)
                    await pipe.execute()
                except WatchError:
                    continue
                return answer

    async def _claim(self, keys: list[Any], args: list[Any]) -> Any:
        unacked, index, letters, *lists = keys
        prefix, counter, _, limit, *names = args
        popped = await self._client.brpop(lists, timeout=_BLOCK_S)
        if popped is None:
            return [*await self._client.time(), 0]
        list_key, raw = popped
        number = [_bytes(key) for key in lists].index(list_key)
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.time()
            dead = not claim_value.is_restorable(raw)
            if dead:
                fields = {
                    "raw": raw, "queue": json.loads(names[number]), "reason": "unreadable",
                    "detail": "not a message stock workers could restore", "at": time.time(),
                }  # fmt: skip
                pipe.xadd(letters, fields, maxlen=limit, approximate=True)
            else:
                field = f"{prefix}{counter + 1}"
                pipe.zadd(index, {field: time.time()})
                pipe.hset(unacked, field, claim_value.join(raw, names[number]))
            now, *_ = await pipe.execute()
        return [*now, 1] if dead else [*now, 0, number + 1, raw]

    async def _ended(self, key: Any) -> bool:
        stored = await self._client.get(key)
        if stored is None:
            return False
        try:
            meta = json.loads(stored)
        except ValueError:
            return False
        return isinstance(meta, dict) and is_final(meta)

    @staticmethod
    def _store(pipe: Any, key: Any, meta: Any, ttl: Any) -> None:
        pipe.set(key, meta, ex=int(ttl) or None)
        pipe.publish(key, meta)

    async def _finish(self, keys: list[Any], args: list[Any]) -> list[int]:
        unacked, index, *result_keys = keys
        ttl, count, *rest = args
        fields, metas = rest[: int(count)], rest[int(count) :]
        stored = 0
        async with self._client.pipeline(transaction=True) as pipe:
            for key, meta in zip(result_keys, metas, strict=True):
                if not await self._ended(key):
                    self._store(pipe, key, meta, ttl)
                    stored += 1
            if fields:
                pipe.zrem(index, *fields)
                pipe.hdel(unacked, *fields)
            answers = await pipe.execute()
        return [answers[-1] if fields else 0, stored]

    async def _settle(self, keys: list[Any], args: list[Any]) -> int:
        unacked, index, where, *result_key = keys
        field, how, raw, meta, ttl, *extra = args

        async def body(pipe: Any) -> int:
            if not await pipe.hexists(unacked, field):
                return 0
            store = bool(meta) and not await self._ended(result_key[0])
            pipe.multi()
            if how == "head":
                pipe.rpush(where, raw)
            elif how == "tail" or (how == "park" and float(extra[1]) <= time.time()):
                pipe.lpush(where, raw)
            elif how == "park":
                pipe.hset(unacked, extra[0], claim_value.join(raw, extra[3]))
                pipe.zadd(index, {extra[0]: float(extra[1]) - float(extra[2])})
            else:
                fields = {"raw": raw, **_pairs(extra[1:])}
                pipe.xadd(where, fields, maxlen=extra[0], approximate=True)
            if store:
                self._store(pipe, result_key[0], meta, ttl)
            pipe.hdel(unacked, field)
            pipe.zrem(index, field)
            return 1

        return int(await self._watched(unacked, body))

    async def _park(self, keys: list[Any], args: list[Any]) -> list[Any]:
        unacked, index = keys
        now = await self._client.time()
        out: list[Any] = [*now]
        for at in range(1, len(args), 3):
            field, delayed, eta = args[at : at + 3]
            if float(eta) <= now[0] + now[1] / 1e6:
                out.append(_bytes(field))
                continue

            async def body(
                pipe: Any, field: Any = field, delayed: Any = delayed, eta: Any = eta
            ) -> None:
                value = await pipe.hget(unacked, field)
                pipe.multi()
                if value is not None:
                    pipe.hset(unacked, delayed, value)
                    pipe.zadd(index, {delayed: float(eta) - float(args[0])})
                    pipe.hdel(unacked, field)
                pipe.zrem(index, field)

            await self._watched(unacked, body)
        return out

    async def _due(self, keys: list[Any], args: list[Any]) -> list[Any]:
        unacked, index = keys
        timeout, limit, prefix, separator, delayed = args
        now = await self._client.time()
        rows = await self._client.zrangebyscore(
            index, "-inf", now[0] + now[1] / 1e6 - float(timeout), 0, limit, withscores=True
        )
        moved, stale = 0, []
        for field, score in reversed(rows):
            if not field.startswith(_bytes(delayed)):
                stale += [field, _bytes(repr(score))]
                continue
            step = field[len(delayed) :].partition(b"|")[0].decode()

            async def body(pipe: Any, field: bytes = field, step: str = step) -> int:
                value = await pipe.hget(unacked, field)
                pipe.multi()
                if value is not None:
                    raw, queue = claim_value.split(value)
                    suffix = "" if step == "0" else f"{separator}{step}"
                    pipe.rpush(f"{prefix}{queue}{suffix}", raw)
                pipe.hdel(unacked, field)
                pipe.zrem(index, field)
                return int(value is not None)

            moved += await self._watched(unacked, body)
        first = await self._client.zrange(index, 0, 0, withscores=True)
        return [*now, moved, _bytes(repr(first[0][1])) if first else b"", *stale]

    async def _give_back(self, keys: list[Any], args: list[Any]) -> int:
        unacked, index, *lists = keys
        ours = 0
        for at in range(0, len(args), 2):
            field, number = args[at], int(args[at + 1])

            async def body(pipe: Any, field: Any = field, number: int = number) -> int:
                value = await pipe.hget(unacked, field)
                pipe.multi()
                if value is not None:
                    pipe.rpush(lists[number - 1], claim_value.split(value)[0])
                    pipe.hdel(unacked, field)
                pipe.zrem(index, field)
                return int(value is not None)

            ours += await self._watched(unacked, body)
        return ours

    async def _renew(self, keys: list[Any], args: list[Any]) -> list[Any]:
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
        return [*now, answers[2], *map(_bytes, gone)]

    async def _restore(self, keys: list[Any], args: list[Any]) -> list[int]:
        ttl, limit, *rest = args
        out, at = [], 0
        while at < len(rest):
            width = 10 + int(rest[at + 9])
            out.append(await self._restore_one(keys, ttl, limit, rest[at : at + width]))
            at += width
        return out

    async def _restore_one(self, keys: list[Any], ttl: Any, limit: Any, row: list[Any]) -> int:
        unacked, index, *_ = keys
        field, score, sign, fence, how, where, raw, result, meta, _, *pairs = row
        target = keys[where - 1]
        kind = b"list" if how == "list" else b"stream"
        if await self._client.type(target) not in (b"none", kind):
            return -1

        async def body(pipe: Any) -> int:
            if sign and await pipe.exists(keys[sign - 1]):
                return 0
            if not sign and await pipe.zscore(index, field) != float(score):
                return 0
            if not await pipe.hexists(unacked, field):
                return 0
            store = bool(meta) and not await self._ended(keys[result - 1])
            pipe.multi()
            if how == "list":
                pipe.rpush(target, raw)
            else:
                fields = {"raw": raw, **_pairs(pairs)}
                pipe.xadd(target, fields, maxlen=limit, approximate=True)
            if store:
                self._store(pipe, keys[result - 1], meta, ttl)
            if fence:
                pipe.set(keys[fence - 1], 1, ex=_FENCE_S)
            pipe.hdel(unacked, field)
            pipe.zrem(index, field)
            return 1

        return int(await self._watched(unacked, body))

    async def _strays(self, keys: list[Any], args: list[Any]) -> int:
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


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _pairs(flat: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))

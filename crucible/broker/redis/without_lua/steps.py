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

from crucible.broker.redis.atomic import one_step
from crucible.broker.redis.deadline import Pace
from crucible.broker.redis.link import Link
from crucible.broker.redis.without_lua.canvas import CanvasTransactions
from crucible.broker.redis.without_lua.recovery import UpkeepTransactions
from crucible.broker.redis.without_lua.watched import (
    has_ended,
    pairs,
    store_result,
    to_bytes,
    watched,
)
from crucible.broker.wire import claim_value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    Argument = bytes | str | int

#: Seconds BRPOP waits, as stock has it.
_BLOCK_S = 1


class TransactionSteps:
    """Steps as transactions.

    Args:
        client: of the queue server; answers are bytes.
    """

    def __init__(self, client: Redis) -> None:
        # Half of redis-py's commands have no usable annotations.
        self._client: Any = client
        self._link = Link(client)
        self._pace = Pace()
        canvas = CanvasTransactions(client)
        upkeep = UpkeepTransactions(client)
        self._steps: dict[str, Callable[[list[Any], list[Any]], Awaitable[Any]]] = {
            "claim": self._claim,
            "finish": self._finish,
            "settle": self._settle,
            "park": self._park,
            "due": upkeep.due,
            "give_back": self._give_back,
            "renew": upkeep.renew,
            "restore": upkeep.restore,
            "strays": upkeep.strays,
            "conclude": canvas.conclude,
            "chord_part": canvas.chord_part,
        }

    async def run(self, name: str, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        """Run one step; see ``atomic.Steps``."""
        async with one_step(self._client, self._pace) as deadline:
            deadline.sending(sum(len(arg) for arg in args if isinstance(arg, (bytes, str))))
            return await self._steps[name](list(keys), list(args))

    async def command(self, *command: Argument, long_answer: bool = False) -> Any:
        """Run one plain command; see ``atomic.Steps``."""
        async with one_step(self._client, self._pace, long_answer=long_answer) as deadline:
            return await self._link.call(*command, deadline=deadline)

    async def _claim(self, keys: list[Any], args: list[Any]) -> Any:
        unacked, index, letters, *lists = keys
        prefix, counter, _, limit, *names = args
        popped = await self._client.brpop(lists, timeout=_BLOCK_S)
        if popped is None:
            return [*await self._client.time(), 0]
        list_key, raw = popped
        number = [to_bytes(key) for key in lists].index(list_key)
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

    async def _finish(self, keys: list[Any], args: list[Any]) -> list[int]:
        unacked, index, *result_keys = keys
        ttl, count, *rest = args
        fields, metas = rest[: int(count)], rest[int(count) :]
        stored = 0
        async with self._client.pipeline(transaction=True) as pipe:
            for key, meta in zip(result_keys, metas, strict=True):
                if not await has_ended(self._client, key):
                    store_result(pipe, key, meta, ttl)
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
            store = bool(meta) and not await has_ended(self._client, result_key[0])
            pipe.multi()
            if how == "head":
                pipe.rpush(where, raw)
            elif how == "tail" or (how == "park" and float(extra[1]) <= time.time()):
                pipe.lpush(where, raw)
            elif how == "park":
                pipe.hset(unacked, extra[0], claim_value.join(raw, extra[3]))
                pipe.zadd(index, {extra[0]: float(extra[1]) - float(extra[2])})
            else:
                fields = {"raw": raw, **pairs(extra[1:])}
                pipe.xadd(where, fields, maxlen=extra[0], approximate=True)
            if store:
                store_result(pipe, result_key[0], meta, ttl)
            pipe.hdel(unacked, field)
            pipe.zrem(index, field)
            return 1

        return int(await watched(self._client, unacked, body))

    async def _park(self, keys: list[Any], args: list[Any]) -> list[Any]:
        unacked, index = keys
        now = await self._client.time()
        out: list[Any] = [*now]
        for at in range(1, len(args), 3):
            field, delayed, eta = args[at : at + 3]
            if float(eta) <= now[0] + now[1] / 1e6:
                out.append(to_bytes(field))
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

            await watched(self._client, unacked, body)
        return out

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

            ours += await watched(self._client, unacked, body)
        return ours

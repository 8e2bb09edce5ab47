"""``conclude`` and ``chord_part`` as transactions, for servers without scripting.

Both watch what they decide by, so that nobody can come between the decision and the writes. Answers
are those of the scripts of the same names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.exceptions import WatchError

from crucible.broker.redis.without_lua.watched import has_ended, store_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Arguments of each operation of ``conclude.lua`` but ``bury``.
_WIDTH = {
    "claim": 1, "free": 0, "guard": 4, "unguard": 0, "store": 2, "push": 2, "set": 3, "del": 1,
    "incr": 2,
}  # fmt: skip


@dataclass(slots=True)
class _Block:
    """What happens with the end of one claim, or with none.

    Attributes:
        claim: the claim's field, None for none.
        operations: each a word and its arguments.
    """

    claim: Any = None
    operations: list[list[Any]] = field(default_factory=list)


def _operations(args: Sequence[Any]) -> Iterator[list[Any]]:
    at = 0
    while at < len(args):
        width = 3 + int(args[at + 3]) if args[at] == "bury" else _WIDTH[args[at]]
        yield list(args[at : at + 1 + width])
        at += 1 + width


def _blocks(args: Sequence[Any]) -> list[_Block]:
    blocks = [_Block()]
    for operation in _operations(args):
        if operation[0] in ("claim", "free"):
            blocks.append(_Block(operation[1] if operation[0] == "claim" else None))
        else:
            blocks[-1].operations.append(operation)
    return [block for block in blocks if block.operations or block.claim is not None]


class CanvasTransactions:
    """The steps.

    Args:
        client: of the server; answers are bytes.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def conclude(self, keys: list[Any], args: list[Any]) -> list[int]:
        """See ``conclude.lua``; each claim is one transaction."""
        ours, outcomes = 0, []
        for block in _blocks(args[1:]):
            held, allowed = await self._conclude_one(keys, args[0], block)
            ours += held
            outcomes += allowed
        return [ours, *outcomes]

    async def _conclude_one(
        self, keys: list[Any], ttl: Any, block: _Block
    ) -> tuple[int, list[int]]:
        guards = [op for op in block.operations if op[0] == "guard"]
        watched = [keys[0], *[keys[int(op[1]) - 1] for op in guards]]
        while True:
            async with self._client.pipeline(transaction=True) as pipe:
                await pipe.watch(*watched)
                if block.claim is not None and not await pipe.hexists(keys[0], block.claim):
                    await self._client.zrem(keys[1], block.claim)
                    return 0, [0] * len(guards)
                allowed = [await self._owns(pipe, keys, op) for op in guards]
                ended = {
                    keys[int(op[1]) - 1]: await has_ended(self._client, keys[int(op[1]) - 1])
                    for op in block.operations
                    if op[0] == "store"
                }
                pipe.multi()
                self._queue(pipe, keys, ttl, block, allowed, ended)
                try:
                    await pipe.execute()
                except WatchError:
                    continue
                return int(block.claim is not None), allowed

    @staticmethod
    async def _owns(pipe: Any, keys: list[Any], guard: list[Any]) -> int:
        held = await pipe.get(keys[int(guard[1]) - 1])
        if held is None:
            return int(await pipe.exists(keys[int(guard[2]) - 1]))
        return int(held == str(guard[3]).encode())

    def _queue(
        self, pipe: Any, keys: list[Any], ttl: Any, block: _Block, allowed: list[int],
        ended: dict[Any, bool],
    ) -> None:  # fmt: skip
        outcomes = iter(allowed)
        skipping = False
        for word, *rest in block.operations:
            if word == "guard":
                skipping = not next(outcomes)
                if not skipping:
                    pipe.set(keys[int(rest[0]) - 1], rest[2], ex=int(rest[3]))
            elif word == "unguard":
                skipping = False
            elif not skipping:
                key = keys[int(rest[0]) - 1]
                if word != "store":
                    _queue_write(pipe, word, key, rest[1:])
                elif not ended[key]:
                    store_result(pipe, key, rest[1], ttl)
        if block.claim is not None:
            pipe.hdel(keys[0], block.claim)
            pipe.zrem(keys[1], block.claim)

    async def chord_part(self, keys: list[Any], args: list[Any]) -> list[Any]:
        """See ``chord_part.lua``."""
        parts, extra, size, counted, group, mark, *unacked = keys
        task_id, part, start, index, ttl, token, seconds, *claim = args
        member = f"{task_id}:{index}"
        while True:
            async with self._client.pipeline(transaction=True) as pipe:
                await pipe.watch(*keys)
                if unacked and not await pipe.hexists(unacked[0], *claim):
                    return [b"lost"]
                held = await pipe.get(mark)
                if held == b"done":
                    return [b"done"]
                rows = await pipe.zrangebyscore(parts, index, index)
                before = [row for row in rows if row.startswith(start.encode())]
                new = not before and not await pipe.sismember(counted, member)
                count = await pipe.zcard(parts) + new
                total = await pipe.get(size)
                complete = total is not None and (
                    count == int(total) + int(await pipe.get(extra) or 0)
                )
                taken = held is not None and held != token.encode()
                pipe.multi()
                if before:
                    pipe.zrem(parts, *before)
                if before or new:
                    pipe.zadd(parts, {part: index})
                pipe.sadd(counted, member)
                for key in (parts, extra, size, counted, group) if int(ttl) else ():
                    pipe.expire(key, int(ttl))
                if complete and not taken:
                    pipe.set(mark, token, ex=int(seconds))
                pipe.pttl(mark)
                pipe.get(group)
                pipe.zrange(parts, 0, -1)
                try:
                    *_, left_ms, structure, members = await pipe.execute()
                except WatchError:
                    continue
                if not complete:
                    return [b"waiting"]
                return [b"taken", left_ms] if taken else [b"claimed", structure or b"", members]


def _queue_write(pipe: Any, word: str, key: Any, rest: list[Any]) -> None:
    if word == "push":
        pipe.lpush(key, rest[0])
    elif word == "set":
        pipe.set(key, rest[0], ex=int(rest[1]) or None)
    elif word == "del":
        pipe.delete(key)
    elif word == "incr":
        pipe.incr(key)
        if int(rest[0]):
            pipe.expire(key, int(rest[0]))
    else:
        flat = rest[2:]
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        pipe.xadd(key, fields, maxlen=rest[0], approximate=True)

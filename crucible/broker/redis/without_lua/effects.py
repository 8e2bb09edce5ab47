"""Effects of settlements, as transactions.

Both operations watch the keys they decide by, so that nothing can change between the decision and
the writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.redis.effect_store import ChordCounted, ChordState, EffectsSettled, Verb
from crucible.broker.redis.transactions import executed
from crucible.broker.redis.without_lua.watched import (
    TransactionClient,
    add_dead_letter,
    has_ended,
    pairs,
    store_result,
    to_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crucible.broker.redis.effect_store import EffectBlock, Guarded, PartCount, Write
    from crucible.redis_keys import Keys


class TransactionEffects(TransactionClient):
    """See ``EffectStore``."""

    async def settle_effects(
        self, keys: Keys, blocks: Sequence[EffectBlock], ttl_s: int
    ) -> EffectsSettled:
        """See ``settle_effects.lua``; each block is one transaction."""
        ours = 0
        allowed: list[bool] = []
        async with self._bounded() as deadline:
            deadline.sending(sum(_size(write) for block in blocks for write in _writes(block)))
            for block in blocks:
                held, happened = await self._settle_block(keys, block, ttl_s)
                ours += held
                allowed += happened
        return EffectsSettled(ours, allowed)

    async def _settle_block(
        self, keys: Keys, block: EffectBlock, ttl_s: int
    ) -> tuple[bool, list[bool]]:
        watched = [keys.unacked, *[guarded.mark for guarded in block.guarded]]
        while True:
            async with self._redis.pipeline(transaction=True) as pipe:
                await pipe.watch(*watched)
                if block.claim is not None and not await pipe.hexists(keys.unacked, block.claim):
                    await self._redis.zrem(keys.unacked_index, block.claim)
                    return False, [False] * len(block.guarded)
                allowed = [await _is_allowed(pipe, guarded) for guarded in block.guarded]
                ended = {
                    write.key
                    for write in _writes(block)
                    if write.verb is Verb.STORE
                    and await has_ended(self._redis, write.key, to_bytes(write.args[0]))
                }
                pipe.multi()
                _queue_block(pipe, keys, block, allowed, ended, ttl_s)
                if await executed(pipe) is not None:
                    return block.claim is not None, allowed

    async def count_chord_part(
        self, keys: Keys, counted: PartCount, *, ttl_s: int, mark_ttl_s: int
    ) -> ChordCounted:
        """See ``count_chord_part.lua``."""
        async with self._bounded() as deadline:
            deadline.sending(len(counted.part))
            reply = None
            while reply is None:
                reply = await self._count(keys, counted, ttl_s, mark_ttl_s)
            return reply

    async def _count(
        self, keys: Keys, counted: PartCount, ttl_s: int, mark_ttl_s: int
    ) -> ChordCounted | None:
        """One try; None where a watched key changed meanwhile."""
        chord = keys.chord(counted.group_id)
        unacked = [keys.unacked] if counted.claim else []
        index, start, member = (
            counted.position,
            counted.start,
            f"{counted.task_id}:{counted.position}",
        )
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(*chord, *unacked)
            if unacked and not await pipe.hexists(*unacked, counted.claim):
                return ChordCounted(ChordState.LOST)
            held = await pipe.get(chord.mark)
            if held == b"done":
                return ChordCounted(ChordState.DONE)
            rows = await pipe.zrangebyscore(chord.parts, index, index)
            before = [row for row in rows if row.startswith(start.encode())]
            new = not before and not await pipe.sismember(chord.counted, member)
            count = await pipe.zcard(chord.parts) + new
            total = await pipe.get(chord.size)
            complete = total is not None and (
                count == int(total) + int(await pipe.get(chord.extra) or 0)
            )
            taken = held is not None and held != counted.token.encode()
            pipe.multi()
            if before:
                pipe.zrem(chord.parts, *before)
            if before or new:
                pipe.zadd(chord.parts, {counted.part: index})
            pipe.sadd(chord.counted, member)
            for key in chord[:-1] if ttl_s else ():
                pipe.expire(key, ttl_s)
            if complete and not taken:
                pipe.set(chord.mark, counted.token, ex=mark_ttl_s)
            pipe.pttl(chord.mark)
            pipe.get(chord.structure)
            if (replies := await executed(pipe)) is None:
                return None
            *_, left_ms, structure = replies
        if not complete:
            return ChordCounted(ChordState.WAITING)
        if taken:
            return ChordCounted(ChordState.TAKEN, left_ms=left_ms)
        return ChordCounted(ChordState.CLAIMED, structure=structure or b"", size=count)


def _writes(block: EffectBlock) -> Iterator[Write]:
    yield from block.writes
    for guarded in block.guarded:
        yield from guarded.writes


def _size(write: Write) -> int:
    return sum(len(arg) for arg in write.args if isinstance(arg, (bytes, str)))


async def _is_allowed(pipe: Any, guarded: Guarded) -> bool:
    held = await pipe.get(guarded.mark)
    if held is None:
        return bool(await pipe.exists(guarded.size))
    return bool(held == guarded.token.encode())


def _queue_block(
    pipe: Any, keys: Keys, block: EffectBlock, allowed: Sequence[bool], ended: set[str], ttl_s: int
) -> None:
    for write in block.writes:
        _queue_write(pipe, write, ended, ttl_s)
    for guarded, is_ours in zip(block.guarded, allowed, strict=True):
        if is_ours:
            pipe.set(guarded.mark, guarded.token, ex=guarded.ttl_s)
            for write in guarded.writes:
                _queue_write(pipe, write, ended, ttl_s)
    if block.claim is not None:
        pipe.hdel(keys.unacked, block.claim)
        pipe.zrem(keys.unacked_index, block.claim)


def _queue_write(pipe: Any, write: Write, ended: set[str], ttl_s: int) -> None:
    verb, key, args = write
    values: tuple[Any, ...] = args
    if verb is Verb.STORE:
        if key not in ended:
            store_result(pipe, key, values[0], ttl_s)
    elif verb is Verb.PUSH:
        pipe.lpush(key, values[0])
    elif verb is Verb.SET:
        pipe.set(key, values[0], ex=values[1] or None)
    elif verb is Verb.DELETE:
        pipe.delete(key)
    elif verb is Verb.INCREMENT:
        pipe.incr(key)
        if values[0]:
            pipe.expire(key, values[0])
    else:
        add_dead_letter(pipe, key, pairs(values))

"""Effects of settlements, as scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.redis.effect_store import ChordCounted, ChordState, EffectsSettled, Verb
from crucible.broker.redis.scripts import script
from crucible.broker.redis.with_lua.key_positions import KeyPositions
from crucible.broker.redis.with_lua.runner import ScriptRunner
from crucible.redis_keys import DEAD_LETTER_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.effect_store import EffectBlock, PartCount, Write
    from crucible.redis_keys import Keys


class LuaEffects(ScriptRunner):
    """See ``EffectStore``."""

    async def settle_effects(
        self, keys: Keys, blocks: Sequence[EffectBlock], ttl_s: int
    ) -> EffectsSettled:
        """``settle_effects.lua``."""
        positions = KeyPositions(keys.unacked, keys.unacked_index)
        args: list[Any] = [ttl_s]
        for block in blocks:
            args += ("free",) if block.claim is None else ("claim", block.claim)
            _add_writes(args, positions, block.writes)
            for guarded in block.guarded:
                mark, size = positions.at(guarded.mark), positions.at(guarded.size)
                args += ("guard", mark, size, guarded.token, guarded.ttl_s)
                _add_writes(args, positions, guarded.writes)
                args.append("unguard")
        ours, *allowed = await self._run(script("settle_effects"), positions.keys, args)
        return EffectsSettled(ours, [bool(number) for number in allowed])

    async def count_chord_part(
        self, keys: Keys, counted: PartCount, *, ttl_s: int, mark_ttl_s: int
    ) -> ChordCounted:
        """``count_chord_part.lua``."""
        chord = keys.chord(counted.group_id)
        names = [*chord]
        args: list[Any] = [
            counted.task_id, counted.part, counted.start, counted.position, ttl_s, counted.token,
            mark_ttl_s,
        ]  # fmt: skip
        if counted.claim:
            names.append(keys.unacked)
            args.append(counted.claim)
        word, *rest = await self._run(script("count_chord_part"), names, args)
        state = ChordState(word.decode())
        if state is ChordState.TAKEN:
            return ChordCounted(state, left_ms=rest[0])
        if state is ChordState.CLAIMED:
            return ChordCounted(state, structure=rest[0], size=rest[1])
        return ChordCounted(state)


def _add_writes(args: list[Any], positions: KeyPositions, writes: Sequence[Write]) -> None:
    for verb, key, values in writes:
        args += (verb.value, positions.at(key))
        if verb is Verb.DEAD_LETTER:
            args += (DEAD_LETTER_LIMIT, len(values))
        args += values

"""Settlements that cause more than a result, written in one step.

Where results are kept on another server, the order is: what waiters and chords need on that server,
then the messages together with the end of the claim, then what is left to delete. Dying in between
repeats the task; nothing of it is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.broker.redis.effect_store import EffectBlock, Guarded, Verb, Write
from crucible.redis_keys import CHORD_SENDING_TTL_S, CHORD_SENT_TTL_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.canvas.effects import ChordClosing, Effects, SettlementEffects
    from crucible.broker.claiming.settlement import Settlement
    from crucible.broker.redis.effect_store import EffectStore
    from crucible.redis_keys import Keys


class EffectsWriter:
    """Writes settlements with their effects.

    Args:
        store: atomic operations on the queue server.
        results: operations on the result server where that is another.
        keys: key names.
        ttl_s: seconds results and chords are kept, 0 for ever.
    """

    def __init__(
        self, store: EffectStore, results: EffectStore | None, keys: Keys, ttl_s: int
    ) -> None:
        self._store = store
        self._results = results
        self._keys = keys
        self._ttl_s = ttl_s

    async def settle(self, settlements: Sequence[Settlement], ttl_s: int) -> int:
        """End claims with all they cause; how many of them were still ours.

        Args:
            settlements: the claims.
            ttl_s: seconds their results are kept, 0 for ever.

        Raises:
            BrokerError: nothing is known to have happened; doing it again is safe.
        """
        if self._results is not None:
            results = self._results
            return sum([await self._settle_apart(results, item, ttl_s) for item in settlements])
        blocks = [self._block(item) for item in settlements]
        return (await self._store.settle_effects(self._keys, blocks, ttl_s)).ours

    async def apply(self, effects: Effects) -> None:
        """Make changes that belong to no claim, such as messages sent by a task that runs.

        Raises:
            BrokerError: nothing is known to have happened.
        """
        records, pushes = self._records(effects), _pushes(effects)
        if self._results is None:
            await self._write(self._store, EffectBlock(None, records + pushes, []))
            return
        await self._write(self._results, EffectBlock(None, records, []))
        await self._write(self._store, EffectBlock(None, pushes, []))

    async def _write(self, store: EffectStore, block: EffectBlock) -> None:
        await store.settle_effects(self._keys, [block], self._ttl_s)

    def _block(self, settlement: Settlement) -> EffectBlock:
        effects = _effects_of(settlement)
        writes = self._own_result(settlement)
        writes += self._records(effects.always) + _pushes(effects.always)
        writes += self._dead_letter(settlement)
        guarded = [
            self._guarded(
                closing,
                self._records(closing.effects) + _pushes(closing.effects) + self._close(closing),
            )
            for closing in effects.chords
        ]
        return EffectBlock(_claim_of(settlement), writes, guarded)

    async def _settle_apart(self, results: EffectStore, settlement: Settlement, ttl_s: int) -> int:
        """One settlement whose results and chords are on another server."""
        effects = _effects_of(settlement)
        recorded = EffectBlock(
            None,
            self._own_result(settlement) + self._records(effects.always),
            [self._guarded(item, self._records(item.effects)) for item in effects.chords],
        )
        reply = await results.settle_effects(self._keys, [recorded], ttl_s)
        chords = [
            item for item, allowed in zip(effects.chords, reply.allowed, strict=True) if allowed
        ]
        pushes = _pushes(effects.always)
        for closing in chords:
            pushes += _pushes(closing.effects)
        pushes += self._dead_letter(settlement)
        block = EffectBlock(_claim_of(settlement), pushes, [])
        ours = (await self._store.settle_effects(self._keys, [block], self._ttl_s)).ours
        if chords:
            closed = [self._guarded(item, self._close(item)) for item in chords]
            await self._write(results, EffectBlock(None, [], closed))
        return ours

    @staticmethod
    def _own_result(settlement: Settlement) -> list[Write]:
        if not settlement.result_key:
            return []
        return [Write(Verb.STORE, settlement.result_key, (settlement.meta,))]

    def _dead_letter(self, settlement: Settlement) -> list[Write]:
        disposition = settlement.disposition
        if disposition is None:
            return []
        fields: list[str | bytes] = ["raw", disposition.raw]
        for name, value in (disposition.letter or {}).items():
            fields += (name, value)
        return [Write(Verb.DEAD_LETTER, self._keys.dlq, tuple(fields))]

    def _records(self, effects: Effects) -> list[Write]:
        """Results and chords: what is kept on the result server."""
        writes = [Write(Verb.STORE, key, (meta,)) for key, meta in effects.results]
        for group_id, raw in effects.groups:
            writes.append(Write(Verb.SET, self._keys.chord(group_id).structure, (raw, self._ttl_s)))
        for group_id, size in effects.sizes:
            chord = self._keys.chord(group_id)
            # A chord that is run again under its old id begins anew.
            writes.append(Write(Verb.DELETE, chord.mark))
            writes.append(Write(Verb.SET, chord.size, (size, self._ttl_s)))
        extras = [self._keys.chord(group_id).extra for group_id in effects.added]
        return writes + [Write(Verb.INCREMENT, key, (self._ttl_s,)) for key in extras]

    def _guarded(self, closing: ChordClosing, writes: list[Write]) -> Guarded:
        chord = self._keys.chord(closing.group_id)
        return Guarded(chord.mark, chord.size, closing.token, CHORD_SENDING_TTL_S, writes)

    def _close(self, closing: ChordClosing) -> list[Write]:
        """Delete what a closed chord leaves.

        Of a failed one stock removes the size only: a part that comes again must not fail it
        again, and its results stay to be looked at.
        """
        chord = self._keys.chord(closing.group_id)
        if not closing.succeeded:
            return [Write(Verb.DELETE, chord.size)]
        gone = (chord.parts, chord.extra, chord.size, chord.counted)
        writes = [Write(Verb.DELETE, key) for key in gone]
        return [*writes, Write(Verb.SET, chord.mark, ("done", CHORD_SENT_TTL_S))]


def _pushes(effects: Effects) -> list[Write]:
    """Messages: what is kept on the queue server."""
    return [Write(Verb.PUSH, push.list_key, (push.raw,)) for push in effects.pushes]


def _claim_of(settlement: Settlement) -> str | None:
    return None if settlement.claim is None else settlement.claim.field


def _effects_of(settlement: Settlement) -> SettlementEffects:
    if settlement.effects is None:
        raise ValueError("a settlement without effects does not belong here")
    return settlement.effects

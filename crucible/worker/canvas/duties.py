"""What has to follow a task that is part of a canvas: callbacks, chains, chords.

It is worked out here and returned as a ``SettlementEffects``, which is written in one step with the
task's result and the end of its claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.chord_parts import Part
from crucible.broker.canvas.effects import Effects, SettlementEffects
from crucible.broker.canvas.signature import as_signature, group
from crucible.broker.results.meta import FAILURE, REVOKED, SUCCESS, revoked_result
from crucible.worker.canvas.chords import Failure
from crucible.worker.canvas.errbacks import FailedTask
from crucible.worker.canvas.outgoing import Origin, child_of, message_of
from crucible.worker.canvas.replacement import replacement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.broker.canvas.signature import Signature
    from crucible.broker.claiming.effects_writer import EffectsWriter
    from crucible.broker.results.meta import Meta
    from crucible.broker.wire.decode import Message
    from crucible.worker.canvas.chords import Chords
    from crucible.worker.canvas.errbacks import Errbacks
    from crucible.worker.canvas.outgoing import OutgoingEncoder
    from crucible.worker.run import Run


class CanvasDuties:
    """Works out what follows tasks.

    ``succeeded`` and ``failed`` are for messages with callbacks, errbacks, a chain or a chord,
    ``revoked`` for those with a chord.

    Args:
        encoder: encodes messages.
        chords: counts parts and hands failures on.
        errbacks: notified of failures.
        effects: writes what belongs to no settlement.
    """

    def __init__(
        self, encoder: OutgoingEncoder, chords: Chords, errbacks: Errbacks, effects: EffectsWriter
    ) -> None:
        self._encoder = encoder
        self._chords = chords
        self._errbacks = errbacks
        self._effects = effects

    async def succeeded(self, run: Run, result: Any) -> SettlementEffects:
        """Callbacks, the next step of the chain, a chord's part.

        Raises:
            ValueError: a signature, or the result, cannot be encoded.
            TypeError: the result is of a kind JSON cannot carry.
        """
        message = message_of(run)
        continuation = SettlementEffects()
        embed = message.embed
        for work in _callbacks(embed["callbacks"]):
            self._follow(message, work, result, continuation)
        rest = embed["chain"]
        if rest:
            self._follow(message, rest[-1], result, continuation, chain=rest[:-1])
        await self._count(run, SUCCESS, result, continuation)
        return continuation

    def _follow(
        self,
        message: Message,
        work: Mapping[str, Any],
        result: Any,
        continuation: SettlementEffects,
        **options: Any,
    ) -> None:
        origin = Origin.of(message)
        # In stock's order, which the options of a chord's body keep on the wire.
        options |= {"parent_id": origin.parent_id, "root_id": origin.root_id, "priority": None}
        effects, node = self._encoder.encode(work, (result,), origin, **options)
        continuation.always.extend(effects)
        continuation.children.append(child_of(node))

    async def failed(
        self,
        run: Run,
        error: BaseException,
        result: Mapping[str, Any],
        traceback: str | None,
        *,
        store: bool,
    ) -> SettlementEffects:
        """A chord's part, the failure of the rest of the chain, errbacks.

        Args:
            run: the run that failed.
            error: what it raised.
            result: the error as results carry it.
            traceback: its text, or None.
            store: whether the steps of the chain store the failure too.
        """
        message = message_of(run)
        continuation = SettlementEffects()
        await self._count(run, FAILURE, result, continuation)
        failure = Failure(result, error, traceback, store)
        embed = message.embed
        effects = await self._chords.fail_chain(run, embed["chain"], failure, continuation)
        continuation.always.extend(effects)
        if embed["errbacks"]:
            failed_task = FailedTask(
                id=message.id,
                root_id=message.root_id,
                error=error,
                traceback=traceback,
                task=message.task,
                args=message.args,
                kwargs=message.kwargs,
            )
            sent = await self._errbacks.notify(run, embed["errbacks"], failed_task)
            continuation.always.extend(sent)
        return continuation

    async def revoked(self, run: Run, reason: str) -> SettlementEffects:
        """A chord's part; as in stock, callbacks and the chain are dropped."""
        continuation = SettlementEffects()
        await self._count(run, REVOKED, revoked_result(reason), continuation)
        return continuation

    async def _count(
        self, run: Run, state: str, result: Any, continuation: SettlementEffects
    ) -> None:
        message = message_of(run)
        body = message.embed["chord"]
        if body and message.group:
            index = message.headers.get("group_index")
            part = Part(message.id, message.group, index, state, result)
            await self._chords.count(run, part, body, continuation)

    def follow_ups(self, run: Run) -> Effects:
        """The messages of what hooks asked to be sent with the run's settlement.

        Raises:
            TypeError: an argument is of a kind JSON cannot carry.
        """
        origin = Origin.of(message_of(run))
        return Effects(pushes=[self._encoder.message(call, origin) for call in run.follow_ups])

    def replaced(self, run: Run, work: Mapping[str, Any]) -> SettlementEffects:
        """The message that takes the task's place, under its id.

        Raises:
            ValueError: ``work`` cannot take a task's place.
            TypeError: an argument is of a kind JSON cannot carry.
        """
        message = message_of(run)
        sig, options = replacement(message, work)
        effects, _ = self._encoder.encode(sig, (), Origin.of(message), **options)
        return SettlementEffects(effects)

    async def fail_body(self, run: Run, body: Mapping[str, Any], culprit: Meta) -> None:
        """Fail a chord's body now, for a header's task that failed; for ``celery.chord_unlock``."""
        effects = await self._chords.fail_unlocked(run, as_signature(body), culprit)
        await self._effects.apply(effects)


def _callbacks(wires: Any) -> list[Signature]:
    """What to start for a list of callbacks: several plain ones go as a group (stock, #1936)."""
    callbacks = [as_signature(wire) for wire in wires or ()]
    if len(callbacks) < 2:
        return callbacks
    plain = [sig for sig in callbacks if sig.kind != "group"]
    groups = [sig for sig in callbacks if sig.kind == "group"]
    return [*groups, group(plain)] if plain else groups

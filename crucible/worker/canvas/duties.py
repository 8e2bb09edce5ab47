"""A worker's duties around a task that is part of something larger.

What has to follow a task is worked out here and returned as ``SettlementEffects``: it is written
in one step with the task's result and the end of its claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.chord_parts import Part
from crucible.broker.canvas.effects import Effects, SettlementEffects
from crucible.broker.canvas.signature import as_signature, clone, group
from crucible.broker.results.meta import FAILURE, REVOKED, SUCCESS, revoked_result
from crucible.worker.canvas.builtins import builtin_tasks
from crucible.worker.canvas.chords import Chords, Failure
from crucible.worker.canvas.errbacks import Errbacks, FailedTask
from crucible.worker.canvas.outgoing import Dispatcher, Origin, child_of
from crucible.worker.canvas.replacement import replacement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crucible.broker.canvas.chord_parts import ChordParts
    from crucible.broker.canvas.signature import Signature
    from crucible.broker.claiming.effects_writer import EffectsWriter
    from crucible.broker.results.meta import Meta
    from crucible.broker.wire.decode import Message
    from crucible.broker.wire.result_tree import ResultTree
    from crucible.redis_keys import Keys
    from crucible.worker.execution.execute import Trace
    from crucible.worker.hooks import Run
    from crucible.worker.registry import TaskRegistry


class WorkerCanvas:
    """Does the duties; see ``hooks.Canvas`` for the protocol.

    Args:
        dispatcher: encodes messages.
        chords: counts parts and hands failures on.
        errbacks: told of failures.
        conclude: sends at once what a running task asks for.
    """

    def __init__(
        self, dispatcher: Dispatcher, chords: Chords, errbacks: Errbacks, conclude: EffectsWriter
    ) -> None:
        self._dispatcher = dispatcher
        self._chords = chords
        self._errbacks = errbacks
        self._conclude = conclude

    async def succeeded(self, run: Run, result: Any) -> SettlementEffects:
        """Callbacks, the next step of the chain, a chord's part."""
        message = _message(run)
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
        self, message: Message, work: Mapping[str, Any], result: Any,
        continuation: SettlementEffects, **options: Any,
    ) -> None:  # fmt: skip
        origin = Origin.of(message)
        # In stock's order, which the options of a chord's body keep on the wire.
        options |= {"parent_id": origin.parent_id, "root_id": origin.root_id, "priority": None}
        effects, node = self._dispatcher.start(work, (result,), origin, **options)
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
        """A chord's part, the failure of the rest of the chain, errbacks."""
        message = _message(run)
        continuation = SettlementEffects()
        await self._count(run, FAILURE, result, continuation)
        failure = Failure(result, error, traceback, store)
        embed = message.embed
        effects = await self._chords.fail_chain(run, embed["chain"], failure, continuation)
        continuation.always.extend(effects)
        if embed["errbacks"]:
            told = FailedTask(
                id=message.id,
                root_id=message.root_id,
                error=error,
                traceback=traceback,
                task=message.task,
                args=message.args,
                kwargs=message.kwargs,
            )
            continuation.always.extend(await self._errbacks.tell(run, embed["errbacks"], told))
        return continuation

    async def revoked(self, run: Run, reason: str) -> SettlementEffects:
        """A chord's part; stock leaves callbacks and the chain alone."""
        continuation = SettlementEffects()
        await self._count(run, REVOKED, revoked_result(reason), continuation)
        return continuation

    async def _count(
        self, run: Run, state: str, result: Any, continuation: SettlementEffects
    ) -> None:
        message = _message(run)
        body = message.embed["chord"]
        if body and message.group:
            index = message.headers.get("group_index")
            part = Part(message.id, message.group, index, state, result)
            await self._chords.count(run, part, body, continuation)

    def replaced(self, run: Run, work: Mapping[str, Any]) -> SettlementEffects:
        """The message that takes the task's place, under its id.

        Raises:
            ValueError: ``work`` cannot take a task's place.
            TypeError: an argument is of a kind JSON cannot carry.
        """
        message = _message(run)
        sig, options = replacement(message, work)
        effects, _ = self._dispatcher.start(sig, (), Origin.of(message), **options)
        return SettlementEffects(effects)

    async def send(
        self, run: Run, work: Mapping[str, Any], args: Sequence[Any] = (), **options: Any
    ) -> ResultTree:
        """Start a signature now, as a child of the running task.

        Raises:
            ValueError: ``work`` is no signature.
            TypeError: an argument is of a kind JSON cannot carry.
            BrokerError: it may or may not have been sent.
        """
        effects, node = self._dispatcher.start(work, args, Origin.of(_message(run)), **options)
        await self._conclude.apply(effects)
        run.children.append(child_of(node))
        return node

    async def fail_body(self, run: Run, body: Mapping[str, Any], culprit: Meta) -> None:
        """Fail a chord's body now, for a header's task that failed; for ``celery.chord_unlock``."""
        effects = await self._chords.fail_unlocked(run, as_signature(body), culprit)
        await self._conclude.apply(effects)

    async def add_to_chord(self, run: Run, work: Mapping[str, Any]) -> ResultTree:
        """Start a signature as one more part of the chord the running task is part of.

        Raises:
            ValueError: the task is not part of a chord.
            BrokerError: it may or may not have been sent.
        """
        message = _message(run)
        body = message.embed["chord"]
        if not body or not message.group:
            raise ValueError("the task is not part of a chord")
        sig = clone(as_signature(work))
        sig.set(
            group_id=message.group,
            group_index=message.headers.get("group_index"),
            chord=body,
            root_id=message.root_id,
        )
        effects, node = self._dispatcher.start(sig, (), Origin.of(message))
        added = Effects(added=[message.group])
        added.extend(effects)
        await self._conclude.apply(added)
        run.children.append(child_of(node))
        return node


def _message(run: Run) -> Message:
    if run.message is None:
        raise ValueError("a run without a message has no duties")
    return run.message


def _callbacks(wires: Any) -> list[Signature]:
    """What to start for a list of callbacks: several plain ones go as a group (stock, #1936)."""
    callbacks = [as_signature(wire) for wire in wires or ()]
    if len(callbacks) < 2:
        return callbacks
    plain = [sig for sig in callbacks if sig.kind != "group"]
    groups = [sig for sig in callbacks if sig.kind == "group"]
    return [*groups, group(plain)] if plain else groups


def serve_canvas(
    trace: Trace,
    registry: TaskRegistry,
    conclude: EffectsWriter,
    parts: ChordParts,
    keys: Keys,
    *,
    default_queue: str,
    extended: bool,
) -> None:
    """Let a worker do the duties of canvases, and serve the built-in tasks.

    Args:
        trace: runs the worker's messages.
        registry: the worker's tasks.
        conclude: writes what ends of tasks cause.
        parts: counts parts of chords.
        keys: key names.
        default_queue: where a task goes that names no queue.
        extended: keep name and arguments with results (``result_extended``).
    """
    dispatcher = Dispatcher(registry, keys, default_queue)
    errbacks = Errbacks(registry, dispatcher, trace.caller.invoke)
    chords = Chords(parts, dispatcher, errbacks, keys, extended=extended)
    canvas = WorkerCanvas(dispatcher, chords, errbacks, conclude)
    trace.ends.canvas = canvas
    trace.builtins = builtin_tasks(registry, canvas, parts.metas)

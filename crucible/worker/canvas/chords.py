"""Chords and chains after a task: parts counted, bodies sent, failures handed on.

Source: celery 5.7 ``backends/redis.py`` ``on_chord_part_return``, ``backends/base.py``
``_fail_chain`` and ``chord_error_from_stack``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.chord_parts import NOTIFIED, ChordFailed, Part, shown
from crucible.broker.canvas.effects import ChordClosing, Effects, SettlementEffects
from crucible.broker.canvas.freeze import Place, freeze
from crucible.broker.canvas.signature import Signature, as_signature
from crucible.broker.results.meta import FAILURE, encode_meta, extended_fields
from crucible.broker.wire.ids import default_reply_to, new_id
from crucible.errors import BrokerError, BrokerUnavailable
from crucible.worker.canvas.errbacks import (
    FailedTask,
    errbacks_of,
    fingerprint,
    linked_errbacks,
)
from crucible.worker.canvas.outgoing import Origin
from crucible.worker.exceptions import ChordError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crucible.broker.canvas.chord_parts import ChordParts, CompleteChord
    from crucible.broker.results.meta import Meta
    from crucible.redis_keys import Keys
    from crucible.worker.canvas.errbacks import Errbacks
    from crucible.worker.canvas.outgoing import OutgoingEncoder
    from crucible.worker.run import Run

logger = logging.getLogger(__name__)

#: Between attempts to count a part while the result server does not answer.
_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as it is handed on.

    Attributes:
        result: the exception as results carry it.
        error: the exception.
        traceback: text of its traceback, or None.
        store: whether those it is handed to store it.
        notified: errbacks that were notified of it.
    """

    result: Mapping[str, Any]
    error: BaseException
    traceback: str | None = None
    store: bool = True
    notified: frozenset[str] = frozenset()


class Chords:
    """Counts the parts of chords, sends their bodies, and fails what cannot run any more.

    Args:
        parts: counts parts.
        encoder: encodes bodies.
        errbacks: notified when a body cannot run.
        keys: key names.
        extended: keep name and arguments with results (``result_extended``).
    """

    def __init__(
        self,
        parts: ChordParts,
        encoder: OutgoingEncoder,
        errbacks: Errbacks,
        keys: Keys,
        *,
        extended: bool,
    ) -> None:
        self._parts = parts
        self._encoder = encoder
        self._errbacks = errbacks
        self._keys = keys
        self._extended = extended

    async def count(
        self, run: Run, part: Part, body: Mapping[str, Any], continuation: SettlementEffects
    ) -> None:
        """Count a part; if it was the last, what that causes joins ``continuation``.

        Raises:
            TypeError: the result is of a kind JSON cannot carry.
        """
        ripe = await self._counted(part, run.claim.field)
        if ripe is None:
            return
        effects = Effects()
        try:
            sig = as_signature(body)
        except ValueError:
            logger.exception("chord %s has a body that is no signature", part.group_id)
            continuation.chords.append(ChordClosing(part.group_id, ripe.token, effects, True))
            return
        succeeded = await self._close(run, sig, ripe, effects, continuation)
        continuation.chords.append(ChordClosing(part.group_id, ripe.token, effects, succeeded))

    async def _counted(self, part: Part, claim: str) -> CompleteChord | None:
        token = new_id().replace("-", "")
        while True:
            try:
                return await self._parts.count(part, token, claim)
            except BrokerUnavailable as error:
                logger.warning("a part of chord %s waits: %s", part.group_id, error)
            except BrokerError:
                logger.exception("the server refuses a part of chord %s", part.group_id)
                return None
            await asyncio.sleep(_PAUSE_S)

    async def _close(
        self,
        run: Run,
        body: Signature,
        ripe: CompleteChord,
        effects: Effects,
        continuation: SettlementEffects,
    ) -> bool:
        """Send the body, or fail it; False if the header failed."""
        assert run.message is not None
        try:
            values = ripe.values()
        except ChordFailed as failed:
            logger.warning("the body of a chord fails: %s", failed.message)
            await self._fail_body(run, body, failed, effects, continuation)
            return False
        try:
            started, _ = self._encoder.encode(body, (values,), Origin.of(run.message))
        except (TypeError, ValueError, RecursionError) as error:
            logger.exception("the body of a chord cannot be sent")
            unsent = ChordFailed(f"Callback error: {error!r}")
            await self._fail_body(run, body, unsent, effects, continuation)
        else:
            effects.extend(started)
        return True

    async def _fail_body(
        self,
        run: Run,
        body: Signature,
        failed: ChordFailed,
        effects: Effects,
        continuation: SettlementEffects,
    ) -> None:
        error = ChordError(failed.message)
        traceback = f"{ChordError.__module__}.{ChordError.__name__}: {failed.message}\n"
        result = {
            "exc_type": "ChordError",
            "exc_message": [failed.message],
            "exc_module": "celery.exceptions",
        }
        failure = Failure(result, error, traceback, notified=failed.notified)
        if body.kind == "group":
            await self._fail_group(run, body, failed, failure, effects, continuation)
        else:
            body_id = body.options.get("task_id") or new_id()
            errbacks = linked_errbacks(body)
            await self._fail_task(run, body_id, errbacks, failure, effects)
            notified = failure.notified | set(map(fingerprint, errbacks))
            failure = replace(failure, notified=notified)
            await self._count_failed(run, body, body_id, failure, continuation)
        effects.extend(await self.fail_chain(run, body.options.get("chain"), failure, continuation))

    async def fail_unlocked(self, run: Run, body: Signature, culprit: Meta) -> Effects:
        """The failure of a body whose chord is not counted but polled."""
        effects, continuation = Effects(), SettlementEffects()
        message = f"Dependency {culprit.task_id} raised {shown(culprit.result)}"
        failed = ChordFailed(message, culprit.result)
        await self._fail_body(run, body, failed, effects, continuation)
        return effects

    async def _fail_task(
        self, run: Run, task_id: str, errbacks: Sequence[Any], failure: Failure, effects: Effects
    ) -> None:
        failed_task = FailedTask(
            id=task_id, root_id=task_id, error=failure.error, traceback=failure.traceback
        )
        new = [one for one in errbacks if fingerprint(one) not in failure.notified]
        effects.extend(await self._errbacks.notify(run, new, failed_task))
        # As in stock, the children are those of the task with which the chord failed.
        meta = encode_meta(
            task_id,
            FAILURE,
            failure.result,
            traceback=failure.traceback,
            children=run.children,
        )
        effects.results.append((self._keys.result(task_id), meta))

    async def _fail_group(
        self,
        run: Run,
        body: Signature,
        failed: ChordFailed,
        failure: Failure,
        effects: Effects,
        continuation: SettlementEffects,
    ) -> None:
        """Every member of a group that was a body fails with what the header failed with."""
        if failed.culprit is not None:
            failure = replace(failure, result=failed.culprit)
        own = linked_errbacks(body)
        node = freeze(body, Place(), default_reply_to())
        notified: set[str] = set()
        for member, sig in zip(node.children or (), body.parts, strict=True):
            errbacks: list[Any] = []
            for errback in (*errbacks_of(sig), *own):
                if errback not in errbacks:
                    errbacks.append(errback)
            await self._fail_task(run, member.id, errbacks, failure, effects)
            notified |= set(map(fingerprint, errbacks))
        await self._fail_task(run, node.id, (), failure, effects)
        failure = replace(failure, notified=failure.notified | notified)
        for end in _ends_of(body):
            task_id = end.options.get("task_id")
            if task_id is not None:
                await self._count_failed(run, end, task_id, failure, continuation)

    async def _count_failed(
        self,
        run: Run,
        sig: Signature,
        task_id: str,
        failure: Failure,
        continuation: SettlementEffects,
    ) -> None:
        """A task that will never run counts as failed where it is part of a chord itself."""
        options = sig.options
        chord, group_id = options.get("chord"), options.get("group_id")
        if chord and group_id:
            index = options.get("group_index")
            result = dict(failure.result)
            if failure.notified:
                result[NOTIFIED] = sorted(failure.notified)
            part = Part(task_id, group_id, index, FAILURE, result)
            await self.count(run, part, chord, continuation)

    async def fail_chain(
        self, run: Run, rest: Any, failure: Failure, continuation: SettlementEffects
    ) -> Effects:
        """Hand a failure on to the steps of a chain that will not run, last step first."""
        effects = Effects()
        waiting = deque(rest if isinstance(rest, list) else ())
        while waiting:
            try:
                step = as_signature(waiting.popleft())
            except ValueError:
                logger.exception("a step of a failed chain is no signature")
                continue
            task_id = step.options.get("task_id")
            if failure.store and task_id is not None:
                effects.results.append(
                    (self._keys.result(task_id), self._step_meta(step, task_id, failure))
                )
            if task_id is not None:
                await self._count_failed(run, step, task_id, failure, continuation)
            if step.kind == "chord":
                # What later steps and clients wait for is the body's result.
                waiting.append(step.body)
        return effects

    def _step_meta(self, step: Signature, task_id: str, failure: Failure) -> bytes:
        extended = None
        if self._extended:
            extended = extended_fields(
                name=step["task"],
                args=step["args"],
                kwargs=step["kwargs"],
                worker=None,
                retries=0,
                queue=None,
            )
        return encode_meta(
            task_id,
            FAILURE,
            failure.result,
            traceback=failure.traceback,
            group_id=step.options.get("group_id"),
            parent_id=step.options.get("parent_id"),
            extended=extended,
        )


def _ends_of(sig: Signature) -> Iterator[Signature]:
    """The tasks whose ends are the end of a signature: in a header each is a part."""
    if sig.kind == "chain" and sig.parts:
        yield from _ends_of(sig.parts[-1])
    elif sig.kind == "chord":
        yield from _ends_of(sig.body)
    elif sig.kind == "group":
        for part in sig.parts:
            yield from _ends_of(part)
    else:
        yield sig

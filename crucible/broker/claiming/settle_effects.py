"""Ends of tasks that cause more than a result, written in one step.

Where results are kept on another server, the order is: what waiters and chords need on that server,
then the messages together with the end of the claim, then what is left to tidy up. Dying in between
repeats the task; nothing of it is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.continuation import Operations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.canvas.continuation import Closing, Continuation, Effects
    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.redis.atomic import Steps
    from crucible.redis_keys import Keys

#: About how many dead letters are kept.
DLQ_LIMIT = 10_000


class SettleEffects:
    """Writes continuations.

    Args:
        steps: atomic steps on the queue server.
        results: steps on the result server where that is another.
        keys: key names.
        ttl_s: seconds results and chords are kept, 0 for ever.
    """

    def __init__(self, steps: Steps, results: Steps | None, keys: Keys, ttl_s: int) -> None:
        self._steps = steps
        self._results = results
        self._keys = keys
        self._ttl_s = ttl_s

    async def finish(self, endings: Sequence[Settlement]) -> int:
        """End claims with all they cause; how many of them were still ours.

        Raises:
            BrokerError: nothing is known to have happened; doing it again is safe.
        """
        if self._results is not None:
            return sum([await self._finish_apart(self._results, ending) for ending in endings])
        operations = Operations(self._keys, self._ttl_s)
        for ending in endings:
            self._begin(operations, ending)
            if ending.result_key:
                operations.store(ending.result_key, ending.meta)
            self._write_all(operations, _of(ending))
            self._bury(operations, ending)
        return int((await self._run(self._steps, operations))[0])

    async def apply(self, effects: Effects) -> None:
        """Make changes that belong to no claim, such as messages sent by a task that runs.

        Raises:
            BrokerError: nothing is known to have happened.
        """
        operations = Operations(self._keys, self._ttl_s)
        operations.free()
        operations.records(effects)
        if self._results is not None:
            await self._run(self._results, operations)
            operations = Operations(self._keys, self._ttl_s)
            operations.free()
        operations.pushes(effects)
        await self._run(self._steps, operations)

    async def _run(self, steps: Steps, operations: Operations) -> list[int]:
        reply: list[int] = await steps.run("conclude", operations.keys, operations.args)
        return reply

    def _begin(self, operations: Operations, ending: Settlement) -> None:
        if ending.claim is None:
            operations.free()
        else:
            operations.claim(ending.claim.field)

    def _write_all(self, operations: Operations, continuation: Continuation) -> None:
        operations.records(continuation.effects)
        operations.pushes(continuation.effects)
        for closing in continuation.closings:
            operations.guard(closing)
            operations.records(closing.effects)
            operations.pushes(closing.effects)
            operations.close(closing)
            operations.unguard()

    def _bury(self, operations: Operations, ending: Settlement) -> None:
        if ending.onward is None:
            return
        fields: list[Any] = ["raw", ending.onward.raw]
        for name, value in (ending.onward.letter or {}).items():
            fields += (name, value)
        operations.bury(self._keys.dlq, DLQ_LIMIT, fields)

    async def _finish_apart(self, results: Steps, ending: Settlement) -> int:
        continuation = _of(ending)
        closings = await self._record(results, ending, continuation)
        operations = Operations(self._keys, self._ttl_s)
        self._begin(operations, ending)
        operations.pushes(continuation.effects)
        for closing in closings:
            operations.pushes(closing.effects)
        self._bury(operations, ending)
        ours = int((await self._run(self._steps, operations))[0])
        await self._tidy(results, closings)
        return ours

    async def _record(
        self, results: Steps, ending: Settlement, continuation: Continuation
    ) -> list[Closing]:
        """Write what lies on the result server; the chords that are still ours to close."""
        operations = Operations(self._keys, self._ttl_s)
        operations.free()
        if ending.result_key:
            operations.store(ending.result_key, ending.meta)
        operations.records(continuation.effects)
        for closing in continuation.closings:
            operations.guard(closing)
            operations.records(closing.effects)
            operations.unguard()
        _, *allowed = await self._run(results, operations)
        return [closing for closing, own in zip(continuation.closings, allowed, strict=True) if own]

    async def _tidy(self, results: Steps, closings: Sequence[Closing]) -> None:
        if not closings:
            return
        operations = Operations(self._keys, self._ttl_s)
        operations.free()
        for closing in closings:
            operations.guard(closing)
            operations.close(closing)
            operations.unguard()
        await self._run(results, operations)


def _of(ending: Settlement) -> Continuation:
    if ending.continuation is None:
        raise ValueError("an ending that causes nothing does not belong here")
    return ending.continuation

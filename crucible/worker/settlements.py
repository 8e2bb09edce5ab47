"""How claims are settled, as data: the result stored, where the message goes, what follows.

Whatever a run comes to is turned into a ``Settlement`` here, and written by the settlement writer:
``returned`` and ``raised`` for a call that was made, ``stopped`` for one that was cut short, the
others for messages that are not run. Each notifies the hooks. No Redis here but what counting a
chord's part asks for through the canvas.
"""

from __future__ import annotations

import asyncio
import time
import traceback as tracebacks
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.effects import SettlementEffects
from crucible.broker.claiming.claims import Destination, Disposition, Settlement
from crucible.broker.wire.decode import decode
from crucible.broker.wire.retry import (
    deliveries_of,
    next_try,
    parse,
    redelivered,
)
from crucible.broker.wire.unreadable import identified
from crucible.errors import MessageError
from crucible.worker.exceptions import (
    EncodeError,
    Escaped,
    Ignore,
    NotRegistered,
    Reject,
    Replaced,
    ResultRefused,
    Retry,
    TimeLimitExceeded,
    Unreadable,
    WorkerLost,
)
from crucible.worker.execution.cancellation import clear_cancellation
from crucible.worker.failure_log import log_failure
from crucible.worker.hooks import notify
from crucible.worker.result_encoder import error_result
from crucible.worker.run import Stop, TurnedAway

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.clock import ServerClock
    from crucible.broker.wire.decode import Message
    from crucible.redis_keys import Keys
    from crucible.worker.canvas.duties import CanvasDuties
    from crucible.worker.dead_letters import DeadLetterEncoder
    from crucible.worker.hooks import TaskHooks
    from crucible.worker.result_encoder import ResultEncoder
    from crucible.worker.run import Run
    from crucible.worker.task import Task


class Settlements:
    """Works out the settlements of one worker.

    Args:
        encoder: encodes results.
        dead_letters: encodes dead letters.
        canvas: does the duties of callbacks, chains and chords.
        hooks: notified of what happens.
        keys: key names.
        clock: of the queue server.
        max_deliveries: deliveries of a message that this worker failed to handle before it
            becomes a dead letter.
    """

    def __init__(
        self,
        encoder: ResultEncoder,
        dead_letters: DeadLetterEncoder,
        canvas: CanvasDuties,
        hooks: Sequence[TaskHooks],
        *,
        keys: Keys,
        clock: ServerClock,
        max_deliveries: int,
    ) -> None:
        self._encoder = encoder
        self._dead_letters = dead_letters
        self._canvas = canvas
        self._hooks = hooks
        self._result_prefix = keys.result("")
        self._clock = clock
        self._max_deliveries = max_deliveries

    async def returned(
        self, run: Run, message: Message, task: Task, result: Any
    ) -> Settlement | None:
        """The task returned: its result, or what it was stopped for; raises as ``stopped``.

        A result that cannot be encoded is a failure.
        """
        if run.stop is not None:
            # It swallowed its cancellation, and what it returns may be half of what it was to do.
            return await self.stopped(run)
        if run.runner is not None and run.runner.cancelling():
            await clear_cancellation(run.runner)
        continuation = None
        try:
            if _has_duties(message):
                run.runner = None  # what follows the task is not stopped with it
                continuation = await self._canvas.succeeded(run, result)
                run.children.extend(continuation.children)
            ignored = is_ignored(message, task)
            meta = b"" if ignored else self._encoder.success(message, result, run.children)
        except (TypeError, ValueError, RecursionError) as error:
            failure = EncodeError(f"{type(error).__name__}: {error}")
            return await self._failed(run, message, task, failure, _text(error))
        runtime_s = time.monotonic() - run.started_s
        notify(self._hooks, lambda hook: hook.succeeded(run, result, runtime_s))
        key = self._result_prefix + message.id if meta else ""
        return Settlement(run.claim, key, meta, effects=continuation)

    async def raised(
        self, run: Run, message: Message, task: Task, error: BaseException
    ) -> Settlement | None:
        """The task raised: what its exception asks for; raises as ``stopped``."""
        if run.stop is not None:
            return await self.stopped(run)
        if run.runner is not None and run.runner.cancelling():
            await clear_cancellation(run.runner)
        match error:
            case Retry():
                return self._retried(run, message, task, error)
            case Reject():
                return await self._rejected(run, message, task, error)
            case Replaced():
                return await self._replaced(run, message, task, error)
            case Ignore():
                self._notify_turned_away(run, TurnedAway.IGNORED)
                return Settlement(run.claim)
            case Escaped():
                return await self._failed(run, message, task, error.failure, _text(error.error))
            case _:
                return await self._failed(run, message, task, error, _text(error))

    async def stopped(self, run: Run) -> Settlement | None:
        """The run was stopped from outside; None when its claim is another worker's.

        Raises:
            asyncio.CancelledError: its slot ends, or another run has taken over its claim.
        """
        if run.stop in (Stop.CLOSED, Stop.ABANDONED):
            raise asyncio.CancelledError
        runner, run.runner = run.runner, None  # what follows the task is not stopped with it
        if runner is not None:
            await clear_cancellation(runner)
        if run.stop is Stop.REQUEUED:
            # To the end that is served next, unchanged but for its flag.
            raw = redelivered(parse(run.claim.raw))
            return Settlement(
                run.claim, disposition=Disposition(to=Destination.QUEUE_HEAD, raw=raw)
            )
        if run.stop is Stop.LOST:
            return None
        try:
            message = run.message = run.message or decode(run.claim.raw)
        except MessageError as error:
            run.message = identified(run.claim.raw, run.claim.queue)
            return await self.unreadable(run, str(error))
        if run.stop is Stop.TERMINATED:
            return await self.revoked(run, message, TurnedAway.TERMINATED)
        over = TimeLimitExceeded(run.hard_limit_s)
        return await self._failed(run, message, run.task, over, None)

    async def revoked(self, run: Run, message: Message, why: TurnedAway) -> Settlement:
        """Revoked or expired before it ran, or terminated while it did."""
        self._notify_turned_away(run, why)
        continuation = None
        if message.embed["chord"]:
            run.runner = None  # what follows the task is not stopped with it
            continuation = await self._canvas.revoked(run, why.value)
        if is_ignored(message, run.task):
            return Settlement(run.claim, effects=continuation)
        meta = self._encoder.revoked(message, why.value, run.left)
        key = self._result_prefix + message.id
        return Settlement(run.claim, key, meta, effects=continuation)

    def with_follow_ups(self, run: Run, settlement: Settlement) -> Settlement:
        """With what hooks asked to send, and its result's lifetime, if it is the task's end."""
        disposition = settlement.disposition
        final = disposition is None or disposition.to is Destination.DEAD_LETTERS
        if final:
            settlement.ttl_s = run.result_ttl_s
        if run.follow_ups and final:
            effects = settlement.effects = settlement.effects or SettlementEffects()
            effects.always.extend(self._canvas.follow_ups(run))
        return settlement

    async def unregistered(self, run: Run, message: Message) -> Settlement:
        """Stock stores NotRegistered and drops the message; here it is kept as a dead letter."""
        disposition = self._dead_letters.encode(
            run, "unregistered", f"no task {message.task!r} here"
        )
        return await self._failed(
            run, message, None, NotRegistered(message.task), None, disposition
        )

    async def unreadable(self, run: Run, detail: str) -> Settlement:
        """It cannot be run: kept, and a failure where its id is known, so that a waiter ends."""
        if run.message is None:
            return self.dead_letter(run, "unreadable", detail)
        disposition = self._dead_letters.encode(run, "unreadable", detail)
        return await self._failed(run, run.message, run.task, Unreadable(detail), None, disposition)

    async def undeliverable(self, run: Run, message: Message, detail: str) -> Settlement:
        """So many workers died with the message that it is not run any more."""
        attempts = deliveries_of(parse(run.claim.raw))
        disposition = self._dead_letters.encode(run, "undeliverable", detail, attempts)
        return await self._failed(run, message, run.task, WorkerLost(detail), None, disposition)

    def dead_letter(self, run: Run, reason: str, detail: str) -> Settlement:
        """A message that cannot be processed at all becomes a dead letter, without a result."""
        return Settlement(run.claim, disposition=self._dead_letters.encode(run, reason, detail))

    async def refused(self, run: Run, message: Message, detail: str, *, keep: bool) -> Settlement:
        """What the task came to is refused by the server: a failure; ``keep`` its message too.

        Raises:
            BrokerError: what follows the failure is refused as well.
        """
        run.children.clear()
        disposition = None
        if keep:
            disposition = self._dead_letters.encode(run, "unsettled", detail)
        else:
            detail = f"the result is too large for the server: {detail}"
        return await self._failed(run, message, run.task, ResultRefused(detail), None, disposition)

    def worker_fault(self, run: Run) -> Settlement:
        """This worker failed to handle the message: it is delivered again, but not for ever."""
        try:
            envelope = parse(run.claim.raw)
        except MessageError as error:
            return self.dead_letter(run, "unreadable", str(error))
        deliveries = deliveries_of(envelope) + 1
        raw = redelivered(envelope, deliveries)
        # A message in which deliveries cannot be counted would be delivered for ever.
        if deliveries_of(envelope) == deliveries < self._max_deliveries:
            return Settlement(
                run.claim, disposition=Disposition(to=Destination.QUEUE_TAIL, raw=raw)
            )
        detail = f"workers failed to handle it {deliveries} times"
        settlement = self.dead_letter(run, "undeliverable", detail)
        if run.message is not None and not is_ignored(run.message, run.task):
            settlement.result_key = self._result_prefix + run.message.id
            settlement.meta = self._encoder.failure(run.message, WorkerLost(detail), None)
            notify(self._hooks, lambda hook: hook.failed(run, WorkerLost(detail), None))
        return settlement

    async def _failed(
        self,
        run: Run,
        message: Message,
        task: Task | None,
        error: BaseException,
        traceback: str | None,
        disposition: Disposition | None = None,
    ) -> Settlement:
        """The task raised, or never will run; ``disposition`` is where its message is kept."""
        meta = b""
        ignored = is_ignored(message, task)
        if not ignored:
            meta = self._encoder.failure(message, error, traceback, run.children)
        if disposition is None and task is not None and task.keep_failed:
            disposition = self._dead_letters.encode(run, "failed", repr(error), message.retries + 1)
        log_failure(message, error)
        continuation = None
        if _has_duties(message):
            run.runner = None  # what follows the task is not stopped with it
            continuation = await self._canvas.failed(
                run, error, error_result(error), traceback, store=not ignored
            )
        notify(self._hooks, lambda hook: hook.failed(run, error, traceback))
        key = self._result_prefix + message.id if meta else ""
        return Settlement(run.claim, key, meta, disposition, continuation)

    async def _replaced(
        self, run: Run, message: Message, task: Task, replaced: Replaced
    ) -> Settlement:
        """Another task takes this one's place: no result is stored; its start settles the claim."""
        try:
            continuation = self._canvas.replaced(run, replaced.work)
        except (TypeError, ValueError, RecursionError) as error:
            return await self._failed(run, message, task, error, _text(error))
        self._notify_turned_away(run, TurnedAway.IGNORED)
        return Settlement(run.claim, effects=continuation)

    def _retried(self, run: Run, message: Message, task: Task, retry: Retry) -> Settlement:
        """The task asked for another try: its message is delayed, as the next try."""
        at_once = retry.eta is None and not retry.countdown
        eta = self._clock.now() + retry.countdown
        if retry.eta is not None:
            eta = retry.eta.timestamp()
        options = retry.options
        traceback = _text(retry)
        meta = b""
        if not is_ignored(message, task):
            meta = self._encoder.retry(message, retry.exc, traceback)
        notify(self._hooks, lambda hook: hook.retried(run, retry.exc or retry, traceback))
        raw = next_try(run.claim.raw, None if at_once else eta, options)
        disposition = Disposition(
            to=Destination.DELAYED, raw=raw, eta=eta, queue=options.queue or ""
        )
        return Settlement(
            run.claim, self._result_prefix + message.id if meta else "", meta, disposition
        )

    async def _rejected(self, run: Run, message: Message, task: Task, reject: Reject) -> Settlement:
        """The task refused the message: back into its list, or a failure that is kept."""
        if reject.requeue:
            self._notify_turned_away(run, TurnedAway.REQUEUED)
            raw = redelivered(parse(run.claim.raw))
            return Settlement(
                run.claim, disposition=Disposition(to=Destination.QUEUE_TAIL, raw=raw)
            )
        # 5.7 stores the rejection as a failure, 5.3 leaves clients waiting.
        disposition = self._dead_letters.encode(run, "rejected", str(reject.reason))
        settlement = await self._failed(run, message, task, reject, None, disposition)
        self._notify_turned_away(run, TurnedAway.REJECTED)
        return settlement

    def _notify_turned_away(self, run: Run, why: TurnedAway) -> None:
        notify(self._hooks, lambda hook: hook.turned_away(run, why))


def is_ignored(message: Message, task: Task | None) -> bool:
    """Whether the task's result is not stored."""
    ignored = message.headers.get("ignore_result")
    if ignored is None:
        return task is not None and task.ignore_result
    return bool(ignored)  # either way it is the message that decides, as from 5.7 on


def _has_duties(message: Message) -> bool:
    embed = message.embed
    return bool(embed["callbacks"] or embed["errbacks"] or embed["chain"] or embed["chord"])


def _text(error: BaseException) -> str:
    return "".join(tracebacks.format_exception(error))

"""How runs end, as data: the result stored, where the message goes, what follows.

Each method is one way to end; it tells the hooks and works out an ``Settlement``, which the worker
writes. No Redis here but what counting a chord's part asks for through the canvas.
"""

from __future__ import annotations

import logging
import time
import traceback as tracebacks
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.claims import Destination, Disposition, Settlement
from crucible.broker.wire.retry import deliveries_of, next_try, parse, redelivered
from crucible.errors import MessageError
from crucible.worker.exceptions import EncodeError, NotRegistered, WorkerLost
from crucible.worker.hooks import TurnedAway, tell
from crucible.worker.result_encoder import error_result

if TYPE_CHECKING:
    from crucible.broker.redis.clock import ServerClock
    from crucible.broker.wire.decode import Message
    from crucible.redis_keys import Keys
    from crucible.worker.exceptions import Reject, Replaced, Retry
    from crucible.worker.hooks import Canvas, Run, TaskHooks
    from crucible.worker.registry import Task
    from crucible.worker.result_encoder import ResultEncoder

logger = logging.getLogger(__name__)


class Ends:
    """Works out how the runs of one worker end.

    Args:
        hostname: its node name.
        keys: key names.
        clock: of the queue server.
        metas: encodes results.
        hooks: told what happens; None while nobody listens.
        canvas: does the duties of callbacks, chains and chords; None leaves them undone.
    """

    def __init__(
        self,
        hostname: str,
        keys: Keys,
        clock: ServerClock,
        metas: ResultEncoder,
        hooks: TaskHooks | None = None,
        canvas: Canvas | None = None,
    ) -> None:
        self.hooks = hooks
        self.canvas = canvas
        self._hostname = hostname
        self._result_prefix = keys.result("")
        self._clock = clock
        self._metas = metas

    def not_yet(self, message: Message, state: str, result: Any) -> Settlement:
        """The task goes on in another state, and keeps its claim."""
        meta = self._metas.state(message, state, result)
        return Settlement(None, self._result_prefix + message.id, meta)

    async def succeeded(self, run: Run, message: Message, task: Task, result: Any) -> Settlement:
        """The task returned; a result that cannot be encoded is a failure."""
        continuation = None
        try:
            if self.canvas is not None and _has_duties(message):
                run.runner = None  # what follows the task is not stopped with it
                continuation = await self.canvas.succeeded(run, result)
                run.children.extend(continuation.children)
            ignored = is_ignored(message, task)
            meta = b"" if ignored else self._metas.success(message, result, run.children)
        except (TypeError, ValueError, RecursionError) as error:
            failure = EncodeError(f"{type(error).__name__}: {error}")
            return await self.failed(run, message, task, failure, tracebacks.format_exc())
        took_s = time.time() - run.started_at
        tell(self.hooks, lambda to: to.succeeded(run, result, took_s))
        key = self._result_prefix + message.id if meta else ""
        return Settlement(run.claim, key, meta, effects=continuation)

    async def failed(
        self,
        run: Run,
        message: Message,
        task: Task | None,
        error: BaseException,
        traceback: str | None,
        onward: Disposition | None = None,
    ) -> Settlement:
        """The task raised, or never will run; ``onward`` is where its message is kept."""
        meta = b""
        ignored = is_ignored(message, task)
        if not ignored:
            meta = self._metas.failure(message, error, traceback, run.children)
        if task is not None and task.keep_failed:
            letter = self._letter(run, "failed", repr(error))
            letter["attempts"] = str(message.retries + 1)
            onward = Disposition(to=Destination.DEAD_LETTERS, raw=run.claim.raw, letter=letter)
        continuation = None
        if self.canvas is not None and _has_duties(message):
            run.runner = None  # what follows the task is not stopped with it
            continuation = await self.canvas.failed(
                run, error, error_result(error), traceback, store=not ignored
            )
        tell(self.hooks, lambda to: to.failed(run, error, traceback))
        key = self._result_prefix + message.id if meta else ""
        return Settlement(run.claim, key, meta, onward, continuation)

    async def replaced(
        self, run: Run, message: Message, task: Task, replaced: Replaced
    ) -> Settlement:
        """Another task takes this one's place: nothing is stored, the claim ends with its start."""
        try:
            if self.canvas is None:
                raise ValueError("this worker cannot replace tasks")
            continuation = self.canvas.replaced(run, replaced.work)
        except (TypeError, ValueError, RecursionError) as error:
            return await self.failed(run, message, task, error, tracebacks.format_exc())
        self._tell_turned_away(run, TurnedAway.IGNORED)
        return Settlement(run.claim, effects=continuation)

    async def unknown(self, run: Run, message: Message) -> Settlement:
        """Stock stores NotRegistered and drops the message; here it is kept as a dead letter."""
        logger.error("received unregistered task %r, id %s", message.task, message.id)
        letter = self._letter(run, "unregistered", f"no task {message.task!r} here")
        onward = Disposition(to=Destination.DEAD_LETTERS, raw=run.claim.raw, letter=letter)
        return await self.failed(run, message, None, NotRegistered(message.task), None, onward)

    def retried(self, run: Run, message: Message, task: Task, retry: Retry) -> Settlement:
        """The task asked for another try."""
        eta = self._clock.now() + retry.countdown
        text = tracebacks.format_exc()
        meta = b""
        if not is_ignored(message, task):
            meta = self._metas.retry(message, retry.exc, text)
        tell(self.hooks, lambda to: to.retried(run, retry.exc or retry, text))
        raw = next_try(run.claim.raw, eta if retry.countdown else None)
        onward = Disposition(to=Destination.DELAYED, raw=raw, eta=eta)
        return Settlement(run.claim, self._result_prefix + message.id if meta else "", meta, onward)

    async def rejected(self, run: Run, message: Message, task: Task, reject: Reject) -> Settlement:
        """The task would not have the message: back into its list, or a failure that is kept."""
        if reject.requeue:
            self._tell_turned_away(run, TurnedAway.REQUEUED)
            raw = redelivered(parse(run.claim.raw))
            return Settlement(
                run.claim, disposition=Disposition(to=Destination.QUEUE_TAIL, raw=raw)
            )
        # 5.7 stores the rejection as a failure, 5.3 leaves clients waiting.
        letter = self._letter(run, "rejected", str(reject.reason))
        onward = Disposition(to=Destination.DEAD_LETTERS, raw=run.claim.raw, letter=letter)
        ending = await self.failed(run, message, task, reject, None, onward)
        self._tell_turned_away(run, TurnedAway.REJECTED)
        return ending

    def ignored(self, run: Run) -> Settlement:
        """The task asked for no result and no successor."""
        self._tell_turned_away(run, TurnedAway.IGNORED)
        return Settlement(run.claim)

    def given_back(self, run: Run) -> Settlement:
        """Stopped before its end: the next to be served, unchanged but for its flag."""
        raw = redelivered(parse(run.claim.raw))
        return Settlement(run.claim, disposition=Disposition(to=Destination.QUEUE_HEAD, raw=raw))

    async def lost(self, run: Run, message: Message, detail: str) -> Settlement:
        """A message that took its workers along so often that it is not run any more."""
        logger.error("task %s is buried: %s", message.id, detail)
        letter = self._letter(run, "undeliverable", detail)
        letter["attempts"] = str(deliveries_of(parse(run.claim.raw)))
        onward = Disposition(to=Destination.DEAD_LETTERS, raw=run.claim.raw, letter=letter)
        return await self.failed(run, message, run.task, WorkerLost(detail), None, onward)

    async def revoked(self, run: Run, message: Message, why: TurnedAway) -> Settlement:
        """Revoked or expired before it ran, or terminated while it did."""
        self._tell_turned_away(run, why)
        continuation = None
        if self.canvas is not None and message.embed["chord"]:
            run.runner = None  # what follows the task is not stopped with it
            continuation = await self.canvas.revoked(run, why.value)
        if is_ignored(message, run.task):
            return Settlement(run.claim, effects=continuation)
        meta = self._metas.revoked(message, why.value, run.left)
        return Settlement(run.claim, self._result_prefix + message.id, meta, effects=continuation)

    def buried(self, run: Run, reason: str, detail: str) -> Settlement:
        """A message that nobody can do anything with becomes a dead letter."""
        logger.error("dead letter from queue %s: %s", run.claim.queue, detail)
        letter = self._letter(run, reason, detail)
        return Settlement(
            run.claim,
            disposition=Disposition(to=Destination.DEAD_LETTERS, raw=run.claim.raw, letter=letter),
        )

    def fault(self, run: Run, max_deliveries: int) -> Settlement:
        """How a run ends that this worker failed to handle: delivered again, but not for ever."""
        try:
            envelope = parse(run.claim.raw)
        except MessageError as error:
            return self.buried(run, "unreadable", str(error))
        deliveries = deliveries_of(envelope) + 1
        raw = redelivered(envelope, deliveries)
        # Where it cannot be counted it must not go round for ever.
        if deliveries_of(envelope) == deliveries < max_deliveries:
            return Settlement(
                run.claim, disposition=Disposition(to=Destination.QUEUE_TAIL, raw=raw)
            )
        detail = f"workers failed to handle it {deliveries} times"
        ending = self.buried(run, "undeliverable", detail)
        if run.message is not None and not is_ignored(run.message, run.task):
            ending.result_key = self._result_prefix + run.message.id
            ending.meta = self._metas.failure(run.message, WorkerLost(detail), None)
        return ending

    def _tell_turned_away(self, run: Run, why: TurnedAway) -> None:
        tell(self.hooks, lambda to: to.turned_away(run, why))

    def _letter(self, run: Run, reason: str, detail: str) -> dict[str, str]:
        letter = {"queue": run.claim.queue, "reason": reason, "detail": detail}
        if run.message is not None:
            letter["task_id"], letter["task"] = run.message.id, run.message.task
        letter["at"] = f"{self._clock.now():.6f}"
        letter["worker"] = self._hostname
        return letter


def is_ignored(message: Message, task: Task | None) -> bool:
    """Whether nobody wants the task's result."""
    ignored = message.headers.get("ignore_result")
    if ignored is None:
        return task is not None and task.ignore_result
    return bool(ignored)  # either way it is the message that decides, as from 5.7 on


def _has_duties(message: Message) -> bool:
    embed = message.embed
    return bool(embed["callbacks"] or embed["errbacks"] or embed["chain"] or embed["chord"])

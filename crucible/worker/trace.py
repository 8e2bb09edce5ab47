"""What happens to one message, from its bytes to how its claim ends.

No Redis here: a run comes in, an ``Ending`` comes out, and the worker writes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import traceback as tracebacks
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.claims import Ending, Move, Onward
from crucible.broker.results.meta import STARTED
from crucible.broker.wire.message import decode
from crucible.broker.wire.redelivery import LOST, deliveries_of, next_try, parse, redelivered
from crucible.errors import MessageError
from crucible.worker.caller import Caller
from crucible.worker.hooks import Stop, TurnedAway
from crucible.worker.metas import error_result
from crucible.worker.outcomes import (
    EncodeError,
    Ignore,
    NotRegistered,
    Reject,
    Replaced,
    Retry,
    TimeLimitExceeded,
    WorkerLost,
)
from crucible.worker.registry import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from concurrent.futures import Executor

    from crucible.broker.keys import Keys
    from crucible.broker.servers.clock import ServerClock
    from crucible.broker.wire.message import Message
    from crucible.worker.hooks import Canvas, Run, TaskHooks
    from crucible.worker.metas import MetaWriter
    from crucible.worker.registry import Task

logger = logging.getLogger(__name__)


class Delayed(Exception):  # noqa: N818 - a way out of the trace, never seen by tasks
    """The message is not due yet.

    Attributes:
        eta: seconds since the epoch.
    """

    def __init__(self, eta: float) -> None:
        super().__init__(eta)
        self.eta = eta


class RateLimited(Exception):  # noqa: N818 - a way out of the trace, never seen by tasks
    """Too many of its kind were started just now; whoever refused it offers it again."""


def _never(_message: Message) -> bool:
    return False


def _always(_run: Run, _name: str) -> bool:
    return True


class Trace:
    """Runs messages of one worker.

    Args:
        registry: its tasks.
        hostname: its node name.
        keys: key names.
        clock: of the queue server.
        metas: encodes results.
        states: lifespan values by registry.
        store: stores a result now and returns when it is stored.
        threads: runs plain functions.
        revoked: says whether a message was revoked.
        limits: overrides of tasks' time limits by name: hard, soft.
        hooks: told what happens; None while nobody listens.
        canvas: does the duties of callbacks, chains and chords; None leaves them undone.
            ``builtins`` are served beside the registry's tasks.
        admit: whether a run of a task of some name may start now.
    """

    def __init__(
        self,
        registry: TaskRegistry,
        hostname: str,
        *,
        keys: Keys,
        clock: ServerClock,
        metas: MetaWriter,
        states: Mapping[TaskRegistry, Any],
        store: Callable[[Ending], Awaitable[None]],
        threads: Executor,
        revoked: Callable[[Message], bool] = _never,
        limits: Mapping[str, tuple[float | None, float | None]] | None = None,
        hooks: TaskHooks | None = None,
        canvas: Canvas | None = None,
        admit: Callable[[Run, str], bool] = _always,
    ) -> None:
        self.hooks = hooks
        self.canvas = canvas
        self.builtins = TaskRegistry()
        self.caller = Caller(
            hostname, states, threads, self._update, limits if limits is not None else {}
        )
        self.revoked = revoked
        self._admit = admit
        self._registry = registry
        self._hostname = hostname
        self._result_prefix = keys.result("")
        self._clock = clock
        self._metas = metas
        self._store = store

    async def perform(self, run: Run) -> Ending | None:
        """Run one message; None when its claim is no longer ours to end.

        Raises:
            Delayed: it is not due yet.
            RateLimited: its turn has not come; it is performed again when it has.
            asyncio.CancelledError: the slot itself is cancelled.
        """
        again = run.message is not None
        try:
            message = run.message = run.message or decode(run.claim.raw)
        except MessageError as error:
            return self._bury(run, "unreadable", str(error))
        why = self._turned_away(message)
        if why is not None:
            return await self._revoke(run, message, why)
        task = run.task = self._registry.get(message.task) or self.builtins.get(message.task)
        run.canvas = self.canvas
        hooks = self.hooks
        if hooks is not None and not again:
            hooks.received(run)
        if message.redelivered and (lost := message.headers.get(LOST)):
            return await self._lost(run, message, str(lost))
        if task is None:
            return await self._unknown(run, message)
        if not self._admit(run, message.task):
            raise RateLimited
        run.started_at = time.time()
        if hooks is not None:
            hooks.started(run)
        return await self._outcome(run, message, task)

    async def _outcome(self, run: Run, message: Message, task: Task) -> Ending | None:
        try:
            if task.track_started and not self._ignored(message, task):
                about = {"pid": os.getpid(), "hostname": self._hostname}
                await self._update(message, STARTED, about)
            result = await self.caller.call(run, message, task)
        except asyncio.CancelledError as error:
            return await self._stopped(run, message, task, error)
        except Retry as retry:
            return self._retry(run, message, task, retry)
        except Reject as reject:
            return await self._rejected(run, message, task, reject)
        except Replaced as replaced:
            return await self._replaced(run, message, task, replaced)
        except Ignore:
            self._tell_turned_away(run, TurnedAway.IGNORED)
            return Ending(run.claim)
        except Exception as error:  # noqa: BLE001 - whatever a task raises is its result
            return await self._failed(run, message, task, error, tracebacks.format_exc())
        return await self._succeeded(run, message, task, result)

    def _turned_away(self, message: Message) -> TurnedAway | None:
        """What ends the message before it runs: expired, revoked; Delayed if not due."""
        if message.expires is not None and message.expires < self._clock.now():
            return TurnedAway.EXPIRED
        if self.revoked(message):
            return TurnedAway.REVOKED
        if message.eta is not None and message.eta > self._clock.now():
            raise Delayed(message.eta)
        return None

    async def _update(self, message: Message, state: str, result: Any) -> None:
        meta = self._metas.state(message, state, result)
        await self._store(Ending(None, self._result_prefix + message.id, meta))

    def _ignored(self, message: Message, task: Task | None) -> bool:
        return message.headers.get("ignore_result") is True or (
            task is not None and task.ignore_result
        )

    async def _succeeded(self, run: Run, message: Message, task: Task, result: Any) -> Ending:
        continuation = None
        try:
            if self.canvas is not None and _has_duties(message):
                run.runner = None  # what follows the task is not stopped with it
                continuation = await self.canvas.succeeded(run, result)
                run.children.extend(continuation.children)
            ignored = self._ignored(message, task)
            meta = b"" if ignored else self._metas.success(message, result, run.children)
        except (TypeError, ValueError, RecursionError) as error:
            failure = EncodeError(f"{type(error).__name__}: {error}")
            return await self._failed(run, message, task, failure, tracebacks.format_exc())
        if self.hooks is not None:
            self.hooks.succeeded(run, result, time.time() - run.started_at)
        key = self._result_prefix + message.id if meta else ""
        return Ending(run.claim, key, meta, continuation=continuation)

    async def _failed(
        self,
        run: Run,
        message: Message,
        task: Task | None,
        error: BaseException,
        traceback: str | None,
        onward: Onward | None = None,
    ) -> Ending:
        meta = b""
        ignored = self._ignored(message, task)
        if not ignored:
            meta = self._metas.failure(message, error, traceback, run.children)
        if task is not None and task.keep_failed:
            letter = self._letter(run, "failed", repr(error))
            letter["attempts"] = str(message.retries + 1)
            onward = Onward(move=Move.BURY, raw=run.claim.raw, letter=letter)
        continuation = None
        if self.canvas is not None and _has_duties(message):
            run.runner = None  # what follows the task is not stopped with it
            continuation = await self.canvas.failed(
                run, error, error_result(error), traceback, store=not ignored
            )
        if self.hooks is not None:
            self.hooks.failed(run, error, traceback)
        key = self._result_prefix + message.id if meta else ""
        return Ending(run.claim, key, meta, onward, continuation)

    async def _replaced(self, run: Run, message: Message, task: Task, replaced: Replaced) -> Ending:
        """Another task takes this one's place: nothing is stored, the claim ends with its start."""
        try:
            if self.canvas is None:
                raise ValueError("this worker cannot replace tasks")
            continuation = self.canvas.replaced(run, replaced.work)
        except (TypeError, ValueError, RecursionError) as error:
            return await self._failed(run, message, task, error, tracebacks.format_exc())
        self._tell_turned_away(run, TurnedAway.IGNORED)
        return Ending(run.claim, continuation=continuation)

    async def _unknown(self, run: Run, message: Message) -> Ending:
        """Stock stores NotRegistered and drops the message; here it is kept as a dead letter."""
        logger.error("received unregistered task %r, id %s", message.task, message.id)
        letter = self._letter(run, "unregistered", f"no task {message.task!r} here")
        onward = Onward(move=Move.BURY, raw=run.claim.raw, letter=letter)
        return await self._failed(run, message, None, NotRegistered(message.task), None, onward)

    def _retry(self, run: Run, message: Message, task: Task, retry: Retry) -> Ending:
        eta = self._clock.now() + retry.countdown
        text = tracebacks.format_exc()
        meta = b""
        if not self._ignored(message, task):
            meta = self._metas.retry(message, retry.exc, text)
        if self.hooks is not None:
            self.hooks.retried(run, retry.exc or retry, text)
        onward = Onward(move=Move.PARK, raw=next_try(run.claim.raw, eta), eta=eta)
        return Ending(run.claim, self._result_prefix + message.id if meta else "", meta, onward)

    async def _rejected(self, run: Run, message: Message, task: Task, reject: Reject) -> Ending:
        if reject.requeue:
            self._tell_turned_away(run, TurnedAway.REQUEUED)
            raw = redelivered(parse(run.claim.raw))
            return Ending(run.claim, onward=Onward(move=Move.TAIL, raw=raw))
        # 5.7 stores the rejection as a failure, 5.3 leaves clients waiting.
        letter = self._letter(run, "rejected", str(reject.reason))
        onward = Onward(move=Move.BURY, raw=run.claim.raw, letter=letter)
        ending = await self._failed(run, message, task, reject, None, onward)
        self._tell_turned_away(run, TurnedAway.REJECTED)
        return ending

    async def _lost(self, run: Run, message: Message, detail: str) -> Ending:
        """A message that took its workers along so often that it is not run any more."""
        logger.error("task %s is buried: %s", message.id, detail)
        letter = self._letter(run, "undeliverable", detail)
        onward = Onward(move=Move.BURY, raw=run.claim.raw, letter=letter)
        return await self._failed(run, message, run.task, WorkerLost(detail), None, onward)

    async def _stopped(
        self, run: Run, message: Message, task: Task, error: asyncio.CancelledError
    ) -> Ending | None:
        if run.stop is None:
            if run.runner is not None and run.runner.cancelling():
                raise error  # the slot itself is being cancelled
            return await self._failed(run, message, task, error, tracebacks.format_exc())
        if run.runner is not None:
            while run.runner.cancelling():
                run.runner.uncancel()
        if run.stop is Stop.TERMINATED:
            return await self._revoke(run, message, TurnedAway.TERMINATED)
        if run.stop is Stop.TIME_LIMIT:
            hard = message.timelimit[0] or task.time_limit
            return await self._failed(run, message, task, TimeLimitExceeded(hard), None)
        if run.stop is Stop.GIVEN_BACK:
            raw = redelivered(parse(run.claim.raw))
            return Ending(run.claim, onward=Onward(move=Move.HEAD, raw=raw))
        return None

    async def _revoke(self, run: Run, message: Message, why: TurnedAway) -> Ending:
        self._tell_turned_away(run, why)
        continuation = None
        if self.canvas is not None and message.embed["chord"]:
            run.runner = None  # what follows the task is not stopped with it
            continuation = await self.canvas.revoked(run, why.value)
        if self._ignored(message, run.task):
            return Ending(run.claim, continuation=continuation)
        meta = self._metas.revoked(message, why.value)
        return Ending(run.claim, self._result_prefix + message.id, meta, continuation=continuation)

    def _tell_turned_away(self, run: Run, why: TurnedAway) -> None:
        if self.hooks is not None:
            self.hooks.turned_away(run, why)

    def _bury(self, run: Run, reason: str, detail: str) -> Ending:
        logger.error("dead letter from queue %s: %s", run.claim.queue, detail)
        letter = self._letter(run, reason, detail)
        return Ending(run.claim, onward=Onward(move=Move.BURY, raw=run.claim.raw, letter=letter))

    def fault(self, run: Run, max_deliveries: int) -> Ending:
        """How a run ends that this worker failed to handle: delivered again, but not for ever."""
        envelope = parse(run.claim.raw)
        deliveries = deliveries_of(envelope) + 1
        if deliveries < max_deliveries:
            raw = redelivered(envelope, deliveries)
            return Ending(run.claim, onward=Onward(move=Move.TAIL, raw=raw))
        detail = f"workers failed to handle it {deliveries} times"
        ending = self._bury(run, "undeliverable", detail)
        if run.message is not None and not self._ignored(run.message, run.task):
            ending.result_key = self._result_prefix + run.message.id
            ending.meta = self._metas.failure(run.message, WorkerLost(detail), None)
        return ending

    def _letter(self, run: Run, reason: str, detail: str) -> dict[str, str]:
        letter = {"queue": run.claim.queue, "reason": reason, "detail": detail}
        if run.message is not None:
            letter["task_id"], letter["task"] = run.message.id, run.message.task
        letter["at"] = f"{self._clock.now():.6f}"
        letter["worker"] = self._hostname
        return letter


def _has_duties(message: Message) -> bool:
    embed = message.embed
    return bool(embed["callbacks"] or embed["errbacks"] or embed["chain"] or embed["chord"])

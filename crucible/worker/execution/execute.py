"""What happens to one message, from its bytes to how its claim ends (``ends``).

No Redis here: a run comes in, an ``Settlement`` comes out, and the worker writes it.
"""

from __future__ import annotations

import asyncio
import os
import time
import traceback as tracebacks
from typing import TYPE_CHECKING, Any

from crucible.broker.results.meta import STARTED
from crucible.broker.wire.decode import decode
from crucible.broker.wire.received import was_received
from crucible.broker.wire.retry import LOST
from crucible.errors import MessageError
from crucible.worker.exceptions import Escaped, Ignore, Reject, Replaced, Retry, TimeLimitExceeded
from crucible.worker.execution.call import Caller
from crucible.worker.execution.cancellation import calm
from crucible.worker.hooks import Stop, TurnedAway, tell
from crucible.worker.registry import TaskRegistry
from crucible.worker.settlements import Ends, is_ignored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.redis.clock import ServerClock
    from crucible.broker.wire.decode import Message
    from crucible.redis_keys import Keys
    from crucible.worker.execution.threads import Threads
    from crucible.worker.hooks import Run, TaskHooks
    from crucible.worker.registry import Task
    from crucible.worker.result_encoder import ResultEncoder


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
        admit: whether a run of a task of some name may start now.

    Attributes:
        ends: works out how runs end.
        builtins: tasks served beside the registry's.
        caller: calls tasks.
        revoked: as given.
    """

    def __init__(
        self,
        registry: TaskRegistry,
        hostname: str,
        *,
        keys: Keys,
        clock: ServerClock,
        metas: ResultEncoder,
        states: Mapping[TaskRegistry, Any],
        store: Callable[[Settlement], Awaitable[None]],
        threads: Threads,
        revoked: Callable[[Message], bool] = _never,
        limits: Mapping[str, tuple[float | None, float | None]] | None = None,
        hooks: TaskHooks | None = None,
        admit: Callable[[Run, str], bool] = _always,
    ) -> None:
        self.ends = Ends(hostname, keys, clock, metas, hooks)
        self.builtins = TaskRegistry()
        self.caller = Caller(
            hostname, states, threads, self._update, limits if limits is not None else {}
        )
        self.revoked = revoked
        self._admit = admit
        self._registry = registry
        self._hostname = hostname
        self._clock = clock
        self._store = store

    async def perform(self, run: Run) -> Settlement | None:
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
            return self.ends.buried(run, "unreadable", str(error))
        task = run.task = self._registry.get(message.task) or self.builtins.get(message.task)
        run.canvas = self.ends.canvas
        if task is None:
            return await self.ends.unknown(run, message)
        why = self._turned_away(message)
        if why is not None:
            return await self.ends.revoked(run, message, why)
        hooks = self.ends.hooks
        if not (again or (message.eta is not None and was_received(message))):
            tell(hooks, lambda to: to.received(run))
        if message.redelivered and (lost := message.headers.get(LOST)):
            return await self.ends.lost(run, message, str(lost))
        if not self._admit(run, message.task):
            raise RateLimited
        run.started_at = time.time()
        tell(hooks, lambda to: to.started(run))
        return await self._outcome(run, message, task)

    async def _outcome(self, run: Run, message: Message, task: Task) -> Settlement | None:
        try:
            if task.track_started and not is_ignored(message, task):
                about = {"pid": os.getpid(), "hostname": self._hostname}
                await self._update(message, STARTED, about)
            result = await self.caller.call(run, message, task)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is the result
            if run.stop is not None:
                return await self.stopped(run)
            if run.runner is not None and run.runner.cancelling():
                await calm(run.runner)
            return await self._raised(run, message, task, error)
        if run.stop is not None:
            # It swallowed its cancellation, and what it returns may be half of what it was to do.
            return await self.stopped(run)
        if run.runner is not None and run.runner.cancelling():
            await calm(run.runner)
        return await self.ends.succeeded(run, message, task, result)

    async def _raised(
        self, run: Run, message: Message, task: Task, error: BaseException
    ) -> Settlement | None:
        if isinstance(error, Retry):
            return self.ends.retried(run, message, task, error)
        if isinstance(error, Reject):
            return await self.ends.rejected(run, message, task, error)
        if isinstance(error, Replaced):
            return await self.ends.replaced(run, message, task, error)
        if isinstance(error, Ignore):
            return self.ends.ignored(run)
        text = tracebacks.format_exc()
        if isinstance(error, Escaped):
            text, error = "".join(tracebacks.format_exception(error.error)), error.failure
        return await self.ends.failed(run, message, task, error, text)

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
        await self._store(self.ends.not_yet(message, state, result))

    async def stopped(self, run: Run) -> Settlement | None:
        """How a run ends that was stopped from outside; None when its claim is not ours to end.

        Raises:
            asyncio.CancelledError: nothing is to be done with it here any more.
        """
        if run.stop in (Stop.CLOSED, Stop.LET_GO):
            raise asyncio.CancelledError
        runner, run.runner = run.runner, None  # what follows the task is not stopped with it
        if runner is not None:
            await calm(runner)
        if run.stop is Stop.GIVEN_BACK:
            return self.ends.given_back(run)
        if run.stop is Stop.LOST:
            return None
        try:
            message = run.message = run.message or decode(run.claim.raw)
        except MessageError as error:
            return self.ends.buried(run, "unreadable", str(error))
        if run.stop is Stop.TERMINATED:
            return await self.ends.revoked(run, message, TurnedAway.TERMINATED)
        over = TimeLimitExceeded(run.hard_limit_s)
        return await self.ends.failed(run, message, run.task, over, None)

"""What happens to one run, from the message's bytes to the settlement of its claim.

No Redis here: a run comes in, a ``Settlement`` comes out, and the settlement writer writes it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from crucible.broker.wire.decode import decode
from crucible.broker.wire.received import was_received
from crucible.broker.wire.retry import LOST
from crucible.broker.wire.unreadable import identified
from crucible.errors import MessageError
from crucible.worker.admission import NotDue, RateLimited
from crucible.worker.hooks import notify
from crucible.worker.log_context import running_message
from crucible.worker.settlements import is_ignored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.wire.decode import Message
    from crucible.worker.admission import Admission
    from crucible.worker.execution.call import Caller
    from crucible.worker.hooks import TaskHooks
    from crucible.worker.registry import TaskRegistry
    from crucible.worker.run import Run
    from crucible.worker.settlements import Settlements
    from crucible.worker.state_updates import StateUpdates
    from crucible.worker.task import Task


class Execution:
    """Executes the runs of one worker.

    Args:
        registry: its tasks.
        builtins: tasks served beside them, which a task of the same name goes before.
        admission: decides what may be run now.
        caller: calls tasks.
        settlements: works out what runs come to.
        states: stores STARTED.
        hooks: notified of what happens.
    """

    def __init__(
        self,
        registry: TaskRegistry,
        builtins: TaskRegistry,
        admission: Admission,
        caller: Caller,
        settlements: Settlements,
        states: StateUpdates,
        hooks: Sequence[TaskHooks],
    ) -> None:
        self._registry = registry
        self._builtins = builtins
        self._admission = admission
        self._caller = caller
        self._settlements = settlements
        self._states = states
        self._hooks = hooks

    async def execute(self, run: Run) -> Settlement | None:
        """Execute one run, and name it in what is logged meanwhile; see ``_execute``."""
        try:
            return await self._execute(run)
        finally:
            # A slot runs one message after the other in the same context.
            running_message.set(None)

    async def _execute(self, run: Run) -> Settlement | None:
        """Execute one run; None when its claim is another worker's.

        Raises:
            NotDue: it is to be delayed.
            RateLimited: its turn has not come; it is executed again when it has.
            asyncio.CancelledError: the slot itself is cancelled.
        """
        settlements = self._settlements
        if run.stop is not None:
            return await settlements.stopped(run)
        again = run.message is not None
        try:
            message = run.message = run.message or decode(run.claim.raw)
        except MessageError as error:
            return await self._unreadable(run, str(error))
        running_message.set(message)
        task = run.task = self._task_of(message.task)
        if task is None:
            return await settlements.unregistered(run, message)
        why = self._admission.refusal(message)
        if why is not None:
            return await settlements.revoked(run, message, why)
        eta = message.eta
        if eta is not None and not self._admission.is_due(eta):
            # As from stock, which reports a delayed message when it comes, not when it is due.
            notify(self._hooks, lambda hook: hook.received(run))
            raise NotDue(eta)
        if not (again or (eta is not None and was_received(message))):
            notify(self._hooks, lambda hook: hook.received(run))
        if message.redelivered and (lost := message.headers.get(LOST)):
            return await settlements.undeliverable(run, message, str(lost))
        if not self._admission.within_rate(run, message.task):
            raise RateLimited
        return await self._call(run, message, task)

    def _task_of(self, name: str) -> Task | None:
        return self._registry.get(name) or self._builtins.get(name)

    async def _unreadable(self, run: Run, detail: str) -> Settlement:
        message = run.message = identified(run.claim.raw, run.claim.queue)
        if message is not None:
            run.task = self._task_of(message.task)
        return await self._settlements.unreadable(run, detail)

    async def _call(self, run: Run, message: Message, task: Task) -> Settlement | None:
        run.started_at, run.started_s = time.time(), time.monotonic()
        notify(self._hooks, lambda hook: hook.started(run))
        try:
            if task.track_started and not is_ignored(message, task):
                self._states.started(message)
            result = await self._caller.call(run, message, task)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is the result
            return await self._settlements.raised(run, message, task, error)
        return await self._settlements.returned(run, message, task, result)

"""What is done to sandboxes between programs: made ready, emptied, removed.

Whatever talks to the engine runs in a task that is owned here, so a caller that is cancelled at
any await leaves no container behind.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from typing import TYPE_CHECKING, Protocol

from crucible.errors import ExecutorError
from crucible.executor.hooks import SandboxReady, SandboxRetired, Trouble
from crucible.executor.pool_policy import Demand
from crucible.executor.sandbox import Sandbox
from crucible.executor.sandbox_options import FIRST_UID, UID_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.sandbox import Shape

#: Seconds from a program's end to whatever the engine is asked about its container. Until the
#: supervisor has left, about that long, the engine could only wait; and the result is on its way,
#: through processes that would have to share the processors with the engine's.
SETTLE_DELAY_S = 0.01


class Owner(Protocol):
    """The owner of sandboxes, notified of what became of them."""

    def ready(self, sandbox: Sandbox) -> None:
        """A sandbox was prepared."""

    def park(self, sandbox: Sandbox) -> None:
        """A used container has stopped; a restart makes it ready."""

    def failed(self, error: ExecutorError, shape: Shape) -> None:
        """The engine could not make one."""

    def balance(self) -> None:
        """There is room for another."""


class Upkeep:
    """Background work on sandboxes.

    Args:
        engine: where they are.
        config: the executor's.
        hooks: notified of what happens.
        owner: whose they are.
        make: a sandbox that does not exist yet, of a shape and with a user id.

    Attributes:
        demand: how long preparations take, and whatever else the owner notes there.
        alive: every sandbox, whatever is being done with it.
        preparing: being created or restarted.
        settling: being emptied or removed after a program.
    """

    def __init__(
        self,
        engine: Engine,
        config: ExecutorConfig,
        hooks: ExecutorHooks,
        owner: Owner,
        make: Callable[[Engine, ExecutorConfig, Shape, int], Sandbox] = Sandbox,
    ) -> None:
        self.demand = Demand()
        self.alive: set[Sandbox] = set()
        self.preparing = 0
        self.settling = 0
        self._engine = engine
        self._config = config
        self._hooks = hooks
        self._owner = owner
        self._make = make
        self._tasks: set[asyncio.Task[None]] = set()
        self._uids = itertools.count(secrets.randbelow(UID_COUNT))

    async def close(self) -> None:
        """Wait for all that has been begun; the engine's deadline bounds each."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def prepare(self, recycled: Sandbox | None, shape: Shape) -> None:
        """Make a parked container ready, or without one a new container of a shape."""
        self.preparing += 1
        self._spawn(self._prepare(recycled, shape))

    def settle(self, sandbox: Sandbox) -> None:
        """Stop a used container."""
        self.settling += 1
        self._spawn(self._settle(sandbox))

    def retire(self, sandbox: Sandbox, reason: str) -> None:
        """Remove a container for good."""
        self.settling += 1
        self._spawn(self._remove(sandbox, reason))

    async def _prepare(self, recycled: Sandbox | None, shape: Shape) -> None:
        started_s = time.monotonic()
        uid = FIRST_UID + next(self._uids) % UID_COUNT
        sandbox = recycled or self._make(self._engine, self._config, shape, uid)
        self.alive.add(sandbox)
        try:
            if recycled is None:
                await sandbox.create()
            await sandbox.prepare()
        except ExecutorError as error:
            self.preparing -= 1
            self.retire(sandbox, "unclean")
            self._owner.failed(error, shape)
            return
        self.preparing -= 1
        took_s = time.monotonic() - started_s
        self.demand.prepared(took_s)
        self._hooks.sandbox_ready(
            SandboxReady(took_s=took_s, recycled=recycled is not None, uses=sandbox.uses)
        )
        self._owner.ready(sandbox)

    async def _settle(self, sandbox: Sandbox) -> None:
        await asyncio.sleep(SETTLE_DELAY_S)
        try:
            await sandbox.wait_stopped()
        except ExecutorError as error:
            self.settling -= 1
            self._hooks.trouble(Trouble(doing="settle", error=error))
            self.retire(sandbox, "unclean")
            return
        self.settling -= 1
        self._owner.park(sandbox)

    async def _remove(self, sandbox: Sandbox, reason: str) -> None:
        try:
            await sandbox.remove()
        except ExecutorError as error:
            # The reaper finds it by its label once the engine answers again.
            self._hooks.trouble(Trouble(doing="remove", error=error))
        finally:
            self.settling -= 1
            self.alive.discard(sandbox)
        self._hooks.sandbox_retired(SandboxRetired(reason=reason, uses=sandbox.uses))
        self._owner.balance()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

"""One shared sandbox a tenant: opened on first use, replaced when used up, closed when idle."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Self

from crucible.errors import ExecutorError, ExecutorUnavailable
from crucible.executor.hooks import SandboxReady, SandboxRetired, Trouble
from crucible.executor.sandbox import NotStarted
from crucible.executor.sandbox_options import SHARED_RANGES
from crucible.executor.shared import SharedSandbox

if TYPE_CHECKING:
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.languages import Language
    from crucible.models import Outcome, Program

#: Seconds between looks for sandboxes that nobody uses.
LOOK_S = 1.0
#: Sandboxes that may die under one program before it started.
ATTEMPTS = 3


class SharedPool:
    """The shared sandboxes of this process, by tenant."""

    def __init__(self, engine: Engine, config: ExecutorConfig, hooks: ExecutorHooks) -> None:
        self._engine = engine
        self._config = config
        self._hooks = hooks
        self._opening: dict[str, asyncio.Task[SharedSandbox]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._draining: list[SharedSandbox] = []
        self._ranges = itertools.cycle(range(SHARED_RANGES))
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep(), name="shared-pool")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        opening = list(self._opening.values())
        self._opening.clear()
        for sandbox in await asyncio.gather(*opening, return_exceptions=True):
            if isinstance(sandbox, SharedSandbox):
                self._retire(sandbox, "closing")
        for sandbox in self._draining:
            self._retire(sandbox, "closing")
        self._draining.clear()
        while self._closing:
            await asyncio.wait(self._closing)

    @property
    def container_ids(self) -> set[str]:
        """Every container of this pool."""
        return {sandbox.container_id for sandbox in (*self._open(), *self._draining)}

    async def run(self, program: Program, language: Language) -> tuple[Outcome, float]:
        """Run one program in its tenant's sandbox; the outcome and the seconds until it had one.

        Raises:
            ExecutorError: it could not be run.
        """
        started_s = time.monotonic()
        for _ in range(ATTEMPTS):
            sandbox = await self._sandbox_of(program.tenant)
            sandbox_s = time.monotonic() - started_s
            try:
                return await sandbox.run(program, language), sandbox_s
            except NotStarted:
                continue
        raise ExecutorUnavailable("no shared sandbox stayed alive until the program started")

    async def _sandbox_of(self, tenant: str) -> SharedSandbox:
        """The tenant's sandbox, opened by whoever comes first; the others wait for the same."""
        task = self._opening.get(tenant)
        if task is not None and task.done() and not self._is_good(task):
            del self._opening[tenant]
            task = None
        if task is None:
            self._make_room()
            task = self._opening[tenant] = asyncio.create_task(self._open_one())
        # Shielded: a caller that is cancelled must not take the opening along.
        return await asyncio.shield(task)

    def _is_good(self, task: asyncio.Task[SharedSandbox]) -> bool:
        """Whether an opened sandbox may be given another program; else it is let go."""
        if task.cancelled() or task.exception() is not None:
            return False
        sandbox = task.result()
        if sandbox.alive and sandbox.uses < self._config.shared_uses:
            return True
        self._draining.append(sandbox)
        return False

    def _make_room(self) -> None:
        """Let go the sandbox idle for longest when there are as many as may be.

        Raises:
            ExecutorUnavailable: all of them are at work.
        """
        if len(self._opening) < self._config.shared_max:
            return
        idle = [
            (task.result().used_at, tenant)
            for tenant, task in self._opening.items()
            if task.done() and not task.exception() and not task.result().running
        ]
        if not idle:
            raise ExecutorUnavailable("every shared sandbox is at work for another tenant")
        self._retire(self._opening.pop(min(idle)[1]).result(), "not_needed")

    async def _open_one(self) -> SharedSandbox:
        started_s = time.monotonic()
        sandbox = SharedSandbox(self._engine, self._config, next(self._ranges))
        try:
            await sandbox.open()
        except ExecutorError as error:
            self._hooks.trouble(Trouble(doing="prepare shared", error=error))
            self._retire(sandbox, "unclean")
            raise
        took_s = time.monotonic() - started_s
        self._hooks.sandbox_ready(SandboxReady(took_s=took_s, recycled=False, uses=0))
        return sandbox

    def _open(self) -> list[SharedSandbox]:
        done = [t for t in self._opening.values() if t.done() and not t.cancelled()]
        return [task.result() for task in done if task.exception() is None]

    def _retire(self, sandbox: SharedSandbox, reason: str) -> None:
        task = asyncio.create_task(self._close(sandbox, reason))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, sandbox: SharedSandbox, reason: str) -> None:
        try:
            await sandbox.close()
        except ExecutorError as error:
            # The reaper finds it by its label once the engine answers again.
            self._hooks.trouble(Trouble(doing="remove shared", error=error))
        self._hooks.sandbox_retired(SandboxRetired(reason=reason, uses=sandbox.uses))

    async def _keep(self) -> None:
        """Close what nobody uses any more."""
        while True:
            await asyncio.sleep(LOOK_S)
            limit_s = time.monotonic() - self._config.shared_idle_s
            for tenant, task in list(self._opening.items()):
                if not task.done():
                    continue
                if not self._is_good(task):
                    del self._opening[tenant]
                elif not task.result().running and task.result().used_at < limit_s:
                    del self._opening[tenant]
                    self._retire(task.result(), "not_needed")
            for sandbox in [s for s in self._draining if not s.running]:
                self._draining.remove(sandbox)
                self._retire(sandbox, "used_up")

"""Sandboxes started ahead of need: prepared in the background, lent once, emptied, lent again.

Policy lives in ``pool_policy``, the work on containers in ``upkeep``; here is who has which.
Callers only ever wait on a future of their own, so one that is cancelled at any await leaves no
container behind: one handed to it but not taken goes back, one it was using is removed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from crucible.errors import ExecutorError, ExecutorRefused
from crucible.executor.hooks import NoHooks, SandboxTaken, Trouble
from crucible.executor.pool_policy import PoolCounts, PoolPolicy, PoolTotals
from crucible.executor.upkeep import Upkeep
from crucible.executor.waiting import PoolClosed, PoolFull, PoolTimeout, Waiter, WaitingLine

if TYPE_CHECKING:
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.sandbox import Sandbox, Shape
    from crucible.models import Program

#: Seconds between looks at age and demand when nothing else happens.
LOOK_S = 1.0
#: Seconds from lending a sandbox to preparing the next: a small program takes about that long.
REFILL_DELAY_S = 0.01


class Pool:
    """A pool of sandboxes on one engine."""

    def __init__(
        self,
        engine: Engine,
        config: ExecutorConfig,
        default: Shape,
        hooks: ExecutorHooks | None = None,
    ) -> None:
        self._config = config
        self._default = default
        self._hooks: ExecutorHooks = hooks or NoHooks()
        self.policy = PoolPolicy(
            pool_min=config.pool_min,
            pool_max=config.pool_max,
            max_waiting=config.max_waiting,
            refill=config.refill,
            max_age_s=config.max_age_s,
        )
        self._upkeep = Upkeep(engine, config, self._hooks, self)
        self.demand = self._upkeep.demand
        self._idle: deque[Sandbox] = deque()
        self._parked: deque[Sandbox] = deque()
        self._busy: set[Sandbox] = set()
        self._line = WaitingLine(default)
        self.totals = PoolTotals()
        self._failures = 0
        self._hold_until_s = 0.0
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep(), name="sandbox-pool")
        self.balance()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._line.disappoint(PoolClosed("the executor is closing"), final=True)
        for sandbox in [*self._busy, *self._idle, *self._parked]:
            self._retire(sandbox, "closing")
        self._busy.clear()
        self._idle.clear()
        self._parked.clear()
        # Each is bounded by the engine's deadline; removing is what they end with.
        await self._upkeep.close()

    @property
    def counts(self) -> PoolCounts:
        """What the pool has now."""
        return PoolCounts(
            idle=len(self._idle),
            busy=len(self._busy),
            preparing=self._upkeep.preparing,
            settling=self._upkeep.settling,
            parked=len(self._parked),
            waiting=len(self._line),
            unusual=self._line.unusual,
        )

    @property
    def sandboxes(self) -> frozenset[Sandbox]:
        """Every sandbox this pool knows of, whatever is being done with it."""
        return frozenset(self._upkeep.alive)

    @property
    def container_ids(self) -> set[str]:
        """Every container this pool knows of, whatever is being done with it."""
        return {sandbox.container_id for sandbox in self._upkeep.alive}

    async def acquire(self, shape: Shape, program: Program) -> Sandbox:
        """Lend a ready sandbox; it has to be given to ``release`` whatever happens.

        Args:
            shape: what it has to be like.
            program: what it is for; tenants take turns.

        Raises:
            PoolFull: too many are waiting already.
            PoolTimeout: none became free in time.
            PoolClosed: the pool is shutting down.
            ExecutorError: the engine cannot make one.
        """
        if self._closed:
            raise PoolClosed("the executor is closing")
        asked_s = time.monotonic()
        self.demand.arrived(asked_s)
        # First come, first served among those of one shape; another shape's queue is not theirs.
        if not self._line.has(shape) and (sandbox := self._pop_idle(shape)) is not None:
            self._busy.add(sandbox)
            self._refill_soon()
            self._taken(sandbox, asked_s, hit=True)
            return sandbox
        sandbox = await self._wait(shape, program.tenant)
        self._taken(sandbox, asked_s, hit=False)
        return sandbox

    def release(self, sandbox: Sandbox) -> None:
        """Take back a sandbox after use; what has to be done for that happens later."""
        self._busy.discard(sandbox)
        if self._closed:
            self._retire(sandbox, "closing")
        elif not sandbox.clean:
            self._retire(sandbox, "unclean")
        elif sandbox.shape != self._default or sandbox.uses >= self._config.max_uses:
            self._retire(sandbox, "used_up")
        else:
            self._upkeep.settle(sandbox)

    def discard(self, sandbox: Sandbox) -> None:
        """Take back a sandbox that turned out to be dead before it ran anything."""
        sandbox.clean = False
        self.release(sandbox)

    async def _wait(self, shape: Shape, tenant: str) -> Sandbox:
        if not self.policy.admits(self.counts):
            raise PoolFull(f"{len(self._line)} programs are waiting for a sandbox")
        waiter: Waiter[Sandbox] = self._line.join(Waiter(shape, tenant))
        self.balance()
        try:
            async with asyncio.timeout(self._config.acquire_s):
                return await waiter.future
        except BaseException as error:
            if (sandbox := self._line.leave(waiter)) is not None:
                # Cancelled between picked and handed over: it goes to the next.
                self._busy.discard(sandbox)
                self._offer(sandbox)
            if isinstance(error, TimeoutError):
                text = f"no sandbox became free in {self._config.acquire_s:g} s: {self.counts}"
                raise PoolTimeout(text) from error
            raise

    def _pop_idle(self, shape: Shape) -> Sandbox | None:
        for sandbox in self._idle:
            if sandbox.shape == shape:
                self._idle.remove(sandbox)
                return sandbox
        return None

    def ready(self, sandbox: Sandbox) -> None:
        """A sandbox was prepared, so the engine works."""
        self._failures = 0
        self._offer(sandbox)

    def _offer(self, sandbox: Sandbox) -> None:
        """To the first who waits for its shape, else to the idle ones."""
        if self._closed:
            self._retire(sandbox, "closing")
            return
        if self._line.serve(sandbox):
            self._busy.add(sandbox)
        elif sandbox.shape == self._default:
            self._idle.append(sandbox)
        else:
            self._retire(sandbox, "not_needed")
        self.balance()

    def _refill_soon(self) -> None:
        """Let a small program have the processor first, as long as there are more sandboxes."""
        if self._idle:
            asyncio.get_running_loop().call_later(REFILL_DELAY_S, self.balance)
        else:
            self.balance()

    def balance(self) -> None:
        """Begin the preparations that are due."""
        now_s = time.monotonic()
        if self._closed or now_s < self._hold_until_s:
            return
        unserved = self._line.unserved
        for waiter in unserved[: self.policy.to_make(self.counts)]:
            waiter.served = True
            self._upkeep.prepare(None, waiter.shape)
            unserved.remove(waiter)
        if self.policy.is_in_the_way(self.counts, len(unserved)):
            self._retire((self._parked or self._idle).popleft(), "not_needed")
        expected = self.demand.during_preparation(now_s)
        for _ in range(self.policy.to_prepare(self.counts, expected)):
            self._upkeep.prepare(self._parked.popleft() if self._parked else None, self._default)

    def failed(self, error: ExecutorError, shape: Shape) -> None:
        """The engine could not make one: fail the programs waiting, pause before the next try."""
        self._failures += 1
        self.totals.failed_preparations += 1
        pause_s = self.policy.backoff_s(self._failures)
        self._hold_until_s = time.monotonic() + pause_s
        self._hooks.trouble(Trouble(doing="prepare", error=error))
        # One failure may be chance; a second in a row, or a refusal, fails those waiting.
        final = self._failures > 1 or isinstance(error, ExecutorRefused)
        self._line.disappoint(error, shape, final=final)
        asyncio.get_running_loop().call_later(pause_s, self.balance)

    def park(self, sandbox: Sandbox) -> None:
        """A used container has stopped: a restart makes it ready."""
        if self._closed:
            self._retire(sandbox, "closing")
        else:
            self._parked.append(sandbox)
            self.balance()

    async def _keep(self) -> None:
        """Replace what got too old, let go what is not needed, try again after a pause."""
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = time.monotonic()
            for sandbox in list(self._idle):
                if self.policy.is_too_old(now_s - sandbox.ready_at, sandbox.jitter):
                    self._idle.remove(sandbox)
                    self._retire(sandbox, "too_old")
            expected = self.demand.during_preparation(now_s)
            for _ in range(self.policy.to_retire(self.counts, expected)):
                self._retire(self._idle.popleft(), "not_needed")
            self.balance()

    def _retire(self, sandbox: Sandbox, reason: str) -> None:
        self.totals.retired[reason] += 1
        self._upkeep.retire(sandbox, reason)

    def _taken(self, sandbox: Sandbox, asked_s: float, *, hit: bool) -> None:
        now_s = time.monotonic()
        waited_s = now_s - asked_s
        self.totals.took(waited_s, hit=hit)
        self._hooks.sandbox_taken(
            SandboxTaken(
                isolation="container", hit=hit, waited_s=waited_s, age_s=now_s - sandbox.ready_at
            )
        )

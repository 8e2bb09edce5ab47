"""Lanes: prepared ahead of need, lent to one tenant, retired after their programs.

A lane at rest belongs to a tenant or is fresh. Whatever talks to the engine runs in a task of
``Upkeep``; a caller that is cancelled at any await leaves no container behind.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

from crucible.errors import ExecutorError, ExecutorRefused
from crucible.executor.hooks import SandboxTaken, Trouble
from crucible.executor.nested.lane import Lane
from crucible.executor.nested.policy import LaneCounts, LanePolicy, gives_up
from crucible.executor.turns import Turns
from crucible.executor.upkeep import Upkeep
from crucible.executor.waiting import PoolClosed, PoolFull, PoolTimeout

if TYPE_CHECKING:
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.sandbox import Sandbox, Shape
    from crucible.models import Limits, Program

#: Seconds between looks at lanes that nobody uses.
LOOK_S = 1.0


class LaneWaiter:
    """A program waiting for a lane of its tenant, or one that can become its tenant's.

    Attributes:
        fresh: it wants a lane that has run nothing.
    """

    def __init__(self, tenant: str, shape: Shape, *, fresh: bool = False) -> None:
        self.tenant = tenant
        self.shape = shape
        self.fresh = fresh
        self.future: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()

    def may_have(self, lane: Lane) -> bool:
        """Whether a lane is one it waits for."""
        whose = ("",) if self.fresh else ("", self.tenant)
        return lane.shape == self.shape and lane.tenant in whose and not self.future.done()


class LanePool:
    """The lanes of one environment.

    Args:
        engine: where containers are.
        config: the executor's.
        default: what lanes are like that are made ahead of need, and kept after a program.
        hooks: told what happens.
    """

    def __init__(
        self, engine: Engine, config: ExecutorConfig, default: Shape, hooks: ExecutorHooks
    ) -> None:
        self._config = config
        self._hooks = hooks
        self._default = default
        self.policy = LanePolicy(
            lanes_max=config.lanes_max,
            max_waiting=config.max_waiting,
            refill=config.refill,
            idle_s=config.lane_idle_s,
        )
        self.turns = Turns()
        self._upkeep = Upkeep(engine, config, hooks, self, make=Lane)
        self._fresh: list[Lane] = []
        self._idle: list[Lane] = []
        self._parked: list[Lane] = []
        self._busy: set[Lane] = set()
        self._preparing: Counter[Shape] = Counter()
        self._waiters: list[LaneWaiter] = []
        self._failures = 0
        self._hold_until_s = 0.0
        self._asked_s = -float("inf")
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep(), name="lane-pool")
        self.balance()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._disappoint(PoolClosed("the executor is closing"))
        for lane in [*self._busy, *self._idle, *self._fresh, *self._parked]:
            self._upkeep.retire(lane, "closing")
        for lanes in (self._busy, self._idle, self._fresh, self._parked):
            lanes.clear()
        await self._upkeep.close()

    @property
    def counts(self) -> LaneCounts:
        """What the pool has now."""
        return LaneCounts(
            fresh=len(self._fresh),
            idle=len(self._idle),
            busy=len(self._busy),
            preparing=self._upkeep.preparing,
            settling=self._upkeep.settling,
            parked=len(self._parked),
            waiting=len(self._waiters),
        )

    @property
    def container_ids(self) -> set[str]:
        """Every container this pool knows of, whatever is being done with it."""
        return {lane.container_id for lane in self._upkeep.alive}

    @property
    def lanes(self) -> frozenset[Sandbox]:
        """Every lane, whatever is being done with it."""
        return frozenset(self._upkeep.alive)

    @property
    def held(self) -> Counter[str]:
        """Lanes of each tenant."""
        return Counter(lane.tenant for lane in (*self._busy, *self._idle))

    async def acquire(self, shape: Shape, program: Program, *, fresh: bool = False) -> Lane:
        """Lend a lane; it has to be given to ``release`` whatever happens.

        Args:
            shape: what the lane has to be like.
            program: what it is for; of two lanes of its tenant, one that has its limits already
                is better.
            fresh: a lane that has run nothing, and that nobody else gets afterwards.

        Raises:
            PoolFull: too many are waiting already.
            PoolTimeout: none became free in time.
            PoolClosed: the pool is shutting down.
            ExecutorError: none can be made.
        """
        if self._closed:
            raise PoolClosed("the executor is closing")
        asked_s = self._asked_s = time.monotonic()
        tenant, limits = program.tenant, program.limits
        waiting = any(waiter.tenant == tenant for waiter in self._waiters)
        lane = None if waiting else self._at_rest(tenant, shape, limits, fresh=fresh)
        hit = lane is not None
        if lane is None:
            lane = await self._wait(LaneWaiter(tenant, shape, fresh=fresh))
        lane.kept_apart = fresh
        now_s = time.monotonic()
        self._hooks.sandbox_taken(
            SandboxTaken(hit=hit, waited_s=now_s - asked_s, age_s=now_s - lane.ready_at)
        )
        return lane

    def release(self, lane: Sandbox) -> None:
        """Take back a lane after use; what has to be done for that happens later."""
        assert isinstance(lane, Lane)
        self._busy.discard(lane)
        lane.idle_since = time.monotonic()
        if self._closed:
            self._upkeep.retire(lane, "closing")
        elif not lane.clean or lane.uses >= self._config.max_uses:
            self._upkeep.retire(lane, "unclean" if not lane.clean else "used_up")
        elif not lane.reusable or lane.kept_apart or self._goes_to_others(lane):
            self._upkeep.settle(lane)
        else:
            self._offer(lane)
        self.balance()

    def _goes_to_others(self, lane: Lane) -> bool:
        unserved = [waiter.tenant for waiter in self._unserved()]
        held = self.held
        held[lane.tenant] += 1
        return gives_up(lane.tenant, unserved, held, lane.served)

    def _at_rest(self, tenant: str, shape: Shape, limits: Limits, *, fresh: bool) -> Lane | None:
        """A lane of the tenant, the best fitting first, or a fresh one."""

        def misfit(lane: Lane) -> tuple[bool, bool]:
            return not lane.tenant, not lane.fits(limits)

        found: list[Lane] = [
            lane
            for lane in (*(() if fresh else self._idle), *self._fresh)
            if lane.shape == shape and lane.tenant in ("", tenant)
        ]
        if not found:
            return None
        lane = min(found, key=misfit)
        (self._idle if lane.tenant else self._fresh).remove(lane)
        self._lend(lane, tenant)
        return lane

    def _lend(self, lane: Lane, tenant: str) -> None:
        fresh = not lane.tenant
        lane.tenant = tenant
        self._busy.add(lane)
        if fresh:
            self.turns.serve(tenant)
            self._upkeep.demand.arrived(time.monotonic())
            self.balance()

    async def _wait(self, waiter: LaneWaiter) -> Lane:
        if not self.policy.admits(self.counts):
            raise PoolFull(f"{len(self._waiters)} programs are waiting for a lane")
        self._waiters.append(waiter)
        self.balance()
        try:
            async with asyncio.timeout(self._config.acquire_s):
                return await waiter.future
        except BaseException as error:
            self._leave(waiter)
            if isinstance(error, TimeoutError):
                text = f"no lane became free in {self._config.acquire_s:g} s: {self.counts}"
                raise PoolTimeout(text) from error
            raise

    def _leave(self, waiter: LaneWaiter) -> None:
        """Give up waiting; a lane handed over between picked and taken goes to the next."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            lane = future.result()
            self._busy.discard(lane)
            if waiter.fresh:
                # It was lent and has run nothing.
                lane.tenant = ""
            self._offer(lane)

    def _offer(self, lane: Lane) -> None:
        """To whoever is next among those it may serve, else to those at rest."""
        if self._closed:
            self._upkeep.retire(lane, "closing")
            return
        may = [waiter for waiter in self._waiters if waiter.may_have(lane)]
        if may:
            tenant = self.turns.next_tenant({waiter.tenant for waiter in may}, self.held)
            waiter = next(waiter for waiter in may if waiter.tenant == tenant)
            self._waiters.remove(waiter)
            self._lend(lane, tenant)
            waiter.future.set_result(lane)
        elif lane.shape != self._default:
            self._upkeep.retire(lane, "not_needed")
        else:
            (self._idle if lane.tenant else self._fresh).append(lane)

    def ready(self, sandbox: Sandbox) -> None:
        """A lane was prepared, so the engine works."""
        assert isinstance(sandbox, Lane)
        self._failures = 0
        self._preparing[sandbox.shape] -= 1
        self._offer(sandbox)
        self.balance()

    def park(self, sandbox: Sandbox) -> None:
        """A used lane has stopped: a restart makes it fresh."""
        assert isinstance(sandbox, Lane)
        if self._closed:
            self._upkeep.retire(sandbox, "closing")
        else:
            self._parked.append(sandbox)
            self.balance()

    def failed(self, error: ExecutorError, shape: Shape) -> None:
        """No lane could be made: tell whoever waits, and pause before the next try."""
        self._failures += 1
        self._preparing[shape] -= 1
        pause_s = min(5.0, 0.1 * 2.0 ** min(self._failures - 1, 10))
        self._hold_until_s = time.monotonic() + pause_s
        self._hooks.trouble(Trouble(doing="prepare lane", error=error))
        if self._failures > 1 or isinstance(error, ExecutorRefused):
            self._disappoint(error, shape)
        asyncio.get_running_loop().call_later(pause_s, self.balance)

    def _disappoint(self, error: Exception, shape: Shape | None = None) -> None:
        for waiter in [w for w in self._waiters if shape is None or w.shape == shape]:
            self._waiters.remove(waiter)
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def balance(self) -> None:
        """Begin the preparations that are due, and make room for them."""
        now_s = time.monotonic()
        if self._closed or now_s < self._hold_until_s:
            return
        unserved = self._unserved()
        shapes = [waiter.shape for waiter in unserved]
        fit = any(lane.shape in shapes for lane in self._parked)
        if not fit and self.policy.is_in_the_way(self.counts, len(shapes)):
            self._let_go()
        in_use = self._config.isolation == "nested" or now_s - self._asked_s < self.policy.idle_s
        if in_use:
            spare = self.policy.spare(self._upkeep.demand.during_preparation(now_s))
            coming = self._upkeep.preparing - (len(self._waiters) - len(unserved))
            shapes += [self._default] * (spare - len(self._fresh) - coming)
        for shape in shapes[: self.policy.to_prepare(self.counts, len(shapes))]:
            self._prepare_one(shape)

    def _unserved(self) -> list[LaneWaiter]:
        """Waiting programs that no lane on its way will serve, in order of arrival."""
        coming = self._preparing.copy()
        unserved = []
        for waiter in self._waiters:
            coming[waiter.shape] -= 1
            if coming[waiter.shape] < 0:
                unserved.append(waiter)
        return unserved

    def _prepare_one(self, shape: Shape) -> None:
        """Prepare a stopped lane of a shape, or without one a new lane where there is room."""
        parked = next((lane for lane in self._parked if lane.shape == shape), None)
        if parked is not None:
            self._parked.remove(parked)
        elif self.counts.total >= self.policy.lanes_max:
            return
        self._preparing[shape] += 1
        self._upkeep.prepare(parked, shape)

    def _let_go(self) -> None:
        """Have the lane go that was idle for longest, a stopped one before one that is ready."""
        for lanes in (self._parked, self._idle, self._fresh):
            if lanes:
                lane = min(lanes, key=lambda lane: lane.idle_since)
                lanes.remove(lane)
                self._upkeep.retire(lane, "not_needed")
                return

    async def _keep(self) -> None:
        """Stop lanes that nobody used for a while, and make what is missing."""
        while True:
            await asyncio.sleep(LOOK_S)
            limit_s = time.monotonic() - self.policy.idle_s
            for lane in [lane for lane in self._idle if lane.idle_since < limit_s]:
                self._idle.remove(lane)
                self._upkeep.retire(lane, "not_needed")
            if self._asked_s < limit_s and self._config.isolation != "nested":
                for lane in [*self._fresh, *self._parked]:
                    self._upkeep.retire(lane, "not_needed")
                self._fresh.clear()
                self._parked.clear()
            self.turns.forget({*self.held, *(waiter.tenant for waiter in self._waiters)})
            self.balance()

"""Lanes: prepared ahead of need, lent to one tenant, retired after their programs.

What is decided is in ``policy``, who has which lane in ``shelf``, who waits in ``waiting``.
Calls of the engine run in tasks of ``Upkeep``; a caller that is cancelled at any await
leaves no container behind.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

from crucible.errors import ExecutorError, ExecutorRefused
from crucible.executor.hooks import SandboxRetired, SandboxTaken, Trouble
from crucible.executor.nested.lane import Lane
from crucible.executor.nested.policy import LaneCounts, LanePolicy, gives_up
from crucible.executor.nested.shelf import LaneShelf
from crucible.executor.nested.waiting import LaneLine, LaneWaiter
from crucible.executor.pool_policy import PoolTotals
from crucible.executor.turns import Turns
from crucible.executor.upkeep import Upkeep
from crucible.executor.waiting import PoolClosed, PoolFull, PoolTimeout

if TYPE_CHECKING:
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.sandbox import Sandbox, Shape
    from crucible.models import Program

#: Seconds between looks at lanes that nobody uses.
LOOK_S = 1.0


class LanePool:
    """The lanes of one environment.

    Args:
        engine: where containers are.
        config: the executor's.
        default: what lanes are like that are made ahead of need, and kept after a program.
        hooks: called with what happens.

    Attributes:
        totals: what happened since it was opened.
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
            programs=config.lane_programs,
            uses=config.max_uses,
        )
        self.totals = PoolTotals()
        self._turns = Turns()
        self._upkeep = Upkeep(engine, config, hooks, self, make=Lane)
        self._shelf = LaneShelf()
        self._line = LaneLine()
        self._preparing: Counter[Shape] = Counter()
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
        self._line.disappoint(PoolClosed("the executor is closing"))
        for lane in self._shelf.take_all():
            self._remove(lane, "closing")
        await self._upkeep.close()

    @property
    def counts(self) -> LaneCounts:
        """What the pool has now."""
        shelf = self._shelf
        return LaneCounts(
            fresh=len(shelf.fresh),
            idle=len(shelf.idle),
            busy=len(shelf.busy),
            preparing=self._upkeep.preparing,
            settling=self._upkeep.settling,
            parked=len(shelf.parked),
            waiting=len(self._line),
        )

    @property
    def container_ids(self) -> set[str]:
        """Every container this pool knows of, whatever is being done with it."""
        return {lane.container_id for lane in self._upkeep.alive}

    @property
    def lanes(self) -> frozenset[Sandbox]:
        """Every lane, whatever is being done with it."""
        return frozenset(self._upkeep.alive)

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
        tenant = program.tenant
        lane = None
        if tenant not in self._line.tenants:  # those of its tenant that wait were first
            lane = self._shelf.take(tenant, shape, program.limits, asked_s, fresh=fresh)
        hit = lane is not None
        if lane is not None:
            self._lend(lane, tenant)
        else:
            lane = await self._wait(tenant, shape, fresh=fresh)
        lane.kept_apart = fresh
        self._taken(lane, asked_s, hit=hit)
        return lane

    def release(self, lane: Sandbox) -> None:
        """Take back a lane after use; what has to be done for that happens later."""
        assert isinstance(lane, Lane)
        self._shelf.busy.discard(lane)
        lane.idle_since = time.monotonic()
        if self._closed:
            self._remove(lane, "closing")
        elif reason := self.policy.removal(clean=lane.clean, uses=lane.uses):
            self._remove(lane, reason)
        elif reason := self._restart_of(lane):
            self._retired(lane, reason)
            self._upkeep.settle(lane)
        else:
            self._offer(lane)
        self.balance()

    def _restart_of(self, lane: Lane) -> str:
        """Why a lane is restarted before its next program; empty where it goes on as it is."""
        reason = self.policy.restart(good=lane.good, served=lane.served, apart=lane.kept_apart)
        return reason or ("turn" if self._goes_to_others(lane) else "")

    def _goes_to_others(self, lane: Lane) -> bool:
        if not len(self._line):
            return False
        unserved = [waiter.tenant for waiter in self._line.unserved(self._preparing)]
        held = self._shelf.held
        held[lane.tenant] += 1
        return gives_up(lane.tenant, unserved, held, lane.served)

    def _lend(self, lane: Lane, tenant: str) -> None:
        fresh = not lane.tenant
        lane.tenant = tenant
        self._shelf.busy.add(lane)
        if fresh:
            self._turns.serve(tenant)
            self._upkeep.demand.arrived(time.monotonic())
            self.balance()

    def _taken(self, lane: Lane, asked_s: float, *, hit: bool) -> None:
        now_s = time.monotonic()
        self.totals.took(now_s - asked_s, hit=hit)
        self._hooks.sandbox_taken(
            SandboxTaken(
                isolation="nested", hit=hit, waited_s=now_s - asked_s, age_s=now_s - lane.ready_at
            )
        )

    async def _wait(self, tenant: str, shape: Shape, *, fresh: bool) -> Lane:
        if not self.policy.admits(self.counts):
            raise PoolFull(f"{len(self._line)} programs are waiting for a lane")
        waiter = self._line.join(LaneWaiter(shape, tenant, fresh=fresh))
        self.balance()
        try:
            async with asyncio.timeout(self._config.acquire_s):
                return await waiter.future
        except BaseException as error:
            if (lane := self._line.leave(waiter)) is not None:
                # Cancelled between picked and handed over: it goes to the next.
                self._shelf.busy.discard(lane)
                if fresh:
                    # It was lent and has run nothing.
                    lane.tenant = ""
                self._offer(lane)
            if isinstance(error, TimeoutError):
                text = f"no lane became free in {self._config.acquire_s:g} s: {self.counts}"
                raise PoolTimeout(text) from error
            raise

    def _offer(self, lane: Lane) -> None:
        """Lend it to the next waiting program that it may serve, else put it to rest."""
        if self._closed:
            self._remove(lane, "closing")
        elif (waiter := self._line.next_for(lane, self._turns, self._shelf.held)) is not None:
            self._lend(lane, waiter.tenant)
            waiter.future.set_result(lane)
        elif lane.shape != self._default:
            self._remove(lane, "not_needed")
        else:
            self._shelf.put(lane)

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
            self._remove(sandbox, "closing")
        else:
            self._shelf.parked.append(sandbox)
            self.balance()

    def failed(self, error: ExecutorError, shape: Shape) -> None:
        """No lane could be made: fail the programs waiting, and pause before the next try."""
        self._failures += 1
        self.totals.failed_preparations += 1
        self._preparing[shape] -= 1
        pause_s = self.policy.backoff_s(self._failures)
        self._hold_until_s = time.monotonic() + pause_s
        self._hooks.trouble(Trouble(doing="prepare lane", error=error))
        if self._failures > 1 or isinstance(error, ExecutorRefused):
            self._line.disappoint(error, shape)
        asyncio.get_running_loop().call_later(pause_s, self.balance)

    def balance(self) -> None:
        """Begin the preparations that are due, and make room for them."""
        now_s = time.monotonic()
        if self._closed or now_s < self._hold_until_s:
            return
        unserved = self._line.unserved(self._preparing)
        shapes = [waiter.shape for waiter in unserved]
        fit = any(lane.shape in shapes for lane in self._shelf.parked)
        in_the_way = not fit and self.policy.is_in_the_way(self.counts, len(shapes))
        if in_the_way and (lane := self._shelf.take_longest_unused()) is not None:
            self._remove(lane, "not_needed")
        in_use = self._config.isolation == "nested" or now_s - self._asked_s < self.policy.idle_s
        if in_use:
            spare = self.policy.spare(self._upkeep.demand.during_preparation(now_s))
            coming = self._upkeep.preparing - (len(self._line) - len(unserved))
            shapes += [self._default] * (spare - len(self._shelf.fresh) - coming)
        for shape in shapes[: self.policy.to_prepare(self.counts, len(shapes))]:
            self._prepare_one(shape)

    def _prepare_one(self, shape: Shape) -> None:
        """Prepare a stopped lane of a shape, or without one a new lane where there is room."""
        parked = self._shelf.take_parked(shape)
        if parked is None and self.counts.total >= self.policy.lanes_max:
            return
        self._preparing[shape] += 1
        self._upkeep.prepare(parked, shape)

    def _remove(self, lane: Lane, reason: str) -> None:
        self.totals.retired[reason] += 1
        self._upkeep.retire(lane, reason)

    def _retired(self, lane: Lane, reason: str) -> None:
        self.totals.retired[reason] += 1
        self._hooks.sandbox_retired(
            SandboxRetired(isolation="nested", reason=reason, uses=lane.uses)
        )

    async def _keep(self) -> None:
        """Stop lanes that nobody used for a while, and make what is missing."""
        while True:
            await asyncio.sleep(LOOK_S)
            limit_s = time.monotonic() - self.policy.idle_s
            for lane in self._shelf.take_idle_since(limit_s):
                self._remove(lane, "idle")
            if self._asked_s < limit_s and self._config.isolation != "nested":
                for lane in self._shelf.take_unowned():
                    self._remove(lane, "idle")
            self._turns.forget({*self._shelf.held, *self._line.tenants})
            self.balance()

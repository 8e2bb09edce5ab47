"""Programs that wait for a lane of their tenant, or one that can become its tenant's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter

    from crucible.executor.nested.lane import Lane
    from crucible.executor.sandbox import Shape
    from crucible.executor.turns import Turns


class LaneWaiter:
    """A waiting program of a tenant.

    Attributes:
        fresh: it wants a lane that has run nothing.
    """

    def __init__(self, tenant: str, shape: Shape, *, fresh: bool = False) -> None:
        self.tenant = tenant
        self.shape = shape
        self.fresh = fresh
        self.future: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()

    def may_have(self, lane: Lane) -> bool:
        """Whether a lane serves it, and it still waits."""
        whose = ("",) if self.fresh else ("", self.tenant)
        return self.shape == lane.shape and lane.tenant in whose and not self.future.done()


class LaneLine:
    """All that wait, in order of arrival; tenants take turns."""

    def __init__(self) -> None:
        self._waiters: list[LaneWaiter] = []

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def tenants(self) -> set[str]:
        """Tenants with waiting programs."""
        return {waiter.tenant for waiter in self._waiters}

    def unserved(self, coming: Counter[Shape]) -> list[LaneWaiter]:
        """Those that no lane on its way will serve.

        Args:
            coming: lanes being prepared, by shape.
        """
        left = coming.copy()
        unserved = []
        for waiter in self._waiters:
            left[waiter.shape] -= 1
            if left[waiter.shape] < 0:
                unserved.append(waiter)
        return unserved

    def join(self, tenant: str, shape: Shape, *, fresh: bool = False) -> LaneWaiter:
        """Wait from now on."""
        waiter = LaneWaiter(tenant, shape, fresh=fresh)
        self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: LaneWaiter) -> Lane | None:
        """Give up; a lane that was handed over already comes back."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            return future.result()
        return None

    def next_for(self, lane: Lane, turns: Turns, held: Counter[str]) -> LaneWaiter | None:
        """Who gets a lane, if anybody may; that one waits no more.

        Args:
            lane: the lane.
            turns: which tenant was served when.
            held: lanes of each tenant.
        """
        able = [waiter for waiter in self._waiters if waiter.may_have(lane)]
        if not able:
            return None
        tenant = turns.next_tenant({waiter.tenant for waiter in able}, held)
        waiter = next(waiter for waiter in able if waiter.tenant == tenant)
        self._waiters.remove(waiter)
        return waiter

    def disappoint(self, error: Exception, shape: Shape | None = None) -> None:
        """No lane of ``shape`` (None: of any) could be made: tell whoever waits for one."""
        for waiter in [w for w in self._waiters if shape is None or w.shape == shape]:
            self._waiters.remove(waiter)
            if not waiter.future.done():
                waiter.future.set_exception(error)

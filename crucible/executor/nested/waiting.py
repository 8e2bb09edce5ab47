"""Programs that wait for a lane of their tenant, or one that can become its tenant's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.executor.waiting import Line, Waiter

if TYPE_CHECKING:
    from collections import Counter

    from crucible.executor.nested.lane import Lane
    from crucible.executor.sandbox import Shape
    from crucible.executor.turns import Turns


class LaneWaiter(Waiter["Lane"]):
    """A waiting program of a tenant.

    Attributes:
        fresh: it wants a lane that has run nothing.
    """

    def __init__(self, shape: Shape, tenant: str, *, fresh: bool = False) -> None:
        super().__init__(shape, tenant)
        self.fresh = fresh

    def may_have(self, lane: Lane) -> bool:
        """Whether a lane serves it, and it still waits."""
        whose = ("",) if self.fresh else ("", self.tenant)
        return self.shape == lane.shape and lane.tenant in whose and not self.future.done()


class LaneLine(Line[LaneWaiter]):
    """All that wait, in order of arrival; tenants take turns."""

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
        """No lane of ``shape`` (None: of any) could be made: fail the programs waiting for one."""
        self.fail(error, lambda waiter: shape in (None, waiter.shape))

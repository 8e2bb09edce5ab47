"""The lanes that are not being made, stopped or removed: at rest, lent, or stopped. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crucible.executor.nested.lane import Lane
    from crucible.executor.sandbox import Shape
    from crucible.models import Limits


#: Seconds from the end of a program until its lane has namespaces for the next.
AGAIN_S = 0.003


class LaneShelf:
    """Who has which lane.

    Attributes:
        fresh: ready, and nobody's yet.
        idle: ready, and some tenant's.
        parked: stopped; a restart makes them fresh.
        busy: lent.
    """

    def __init__(self) -> None:
        self.fresh: list[Lane] = []
        self.idle: list[Lane] = []
        self.parked: list[Lane] = []
        self.busy: set[Lane] = set()

    @property
    def held(self) -> Counter[str]:
        """Lanes of each tenant."""
        return Counter(lane.tenant for lane in (*self.busy, *self.idle))

    def put(self, lane: Lane) -> None:
        """A ready lane comes to rest."""
        (self.idle if lane.tenant else self.fresh).append(lane)

    def take(
        self, tenant: str, shape: Shape, limits: Limits, now_s: float, *, fresh: bool = False
    ) -> Lane | None:
        """A lane at rest that a tenant may have, if there is one.

        The best fitting of its own comes first, unless it has to be ``fresh``.

        Args:
            tenant: whose program it is for.
            shape: what the lane has to be like.
            limits: of the program.
            now_s: monotonic seconds.
            fresh: one that has run nothing.
        """

        def misfit(lane: Lane) -> tuple[bool, bool, bool, int]:
            unready = now_s - lane.idle_since < AGAIN_S
            # The one that has served most: used in turns, all would have to be restarted at once.
            return not lane.tenant, not lane.fits(limits), unready, -lane.served

        found: list[Lane] = [
            lane
            for lane in (*(() if fresh else self.idle), *self.fresh)
            if lane.shape == shape and lane.tenant in ("", tenant)
        ]
        if not found:
            return None
        lane = min(found, key=misfit)
        (self.idle if lane.tenant else self.fresh).remove(lane)
        return lane

    def take_parked(self, shape: Shape) -> Lane | None:
        """A stopped lane of a shape, if there is one."""
        lane = next((lane for lane in self.parked if lane.shape == shape), None)
        if lane is not None:
            self.parked.remove(lane)
        return lane

    def take_longest_unused(self) -> Lane | None:
        """The lane that was idle for longest, a stopped one before one that is ready."""
        for lanes in (self.parked, self.idle, self.fresh):
            if lanes:
                lane = min(lanes, key=lambda lane: lane.idle_since)
                lanes.remove(lane)
                return lane
        return None

    def take_idle_since(self, limit_s: float) -> list[Lane]:
        """Tenants' lanes that no program used after a monotonic second."""
        found = [lane for lane in self.idle if lane.idle_since < limit_s]
        for lane in found:
            self.idle.remove(lane)
        return found

    def take_unowned(self) -> list[Lane]:
        """Every lane that is nobody's."""
        found = [*self.fresh, *self.parked]
        self.fresh.clear()
        self.parked.clear()
        return found

    def take_all(self) -> list[Lane]:
        """Every lane, lent ones included."""
        found = [*self.busy, *self.idle, *self.take_unowned()]
        self.busy.clear()
        self.idle.clear()
        return found

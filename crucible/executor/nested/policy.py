"""Which tenant gets a lane next, and which lane has to go: decisions without I/O.

A lane belongs to one tenant until it is restarted. While there are lanes enough, each tenant keeps
as many as it has programs. When there are not, lanes go to the tenant that has fewest, and among
equals to the one that was served longest ago; a tenant gives a lane up as soon as another has two
fewer and waits, and after a turn when another would get none otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Programs of a tenant in a lane, at least, before another that has none gets it: a restart costs
#: as much processor time as some forty small programs.
TURN_PROGRAMS = 16
#: Begins the names of lanes' states among an executor's gauges: containers have some as well.
LANE = "lanes "


class LaneCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool has at one moment.

    Attributes:
        fresh: ready, and nobody's yet.
        idle: ready, and some tenant's.
        busy: running a program.
        preparing: being created or restarted.
        settling: being stopped or removed.
        parked: stopped containers that a restart makes ready.
        waiting: programs waiting for a lane.
    """

    fresh: int = 0
    idle: int = 0
    busy: int = 0
    preparing: int = 0
    settling: int = 0
    parked: int = 0
    waiting: int = 0

    @property
    def total(self) -> int:
        """Containers that exist."""
        return self.fresh + self.idle + self.busy + self.preparing + self.settling + self.parked


class LanePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one pool of lanes; see ``ExecutorConfig`` for what the numbers mean.

    Attributes:
        lanes_max: lanes in existence at once.
        max_waiting: programs that may wait for one.
        refill: lanes prepared at once.
        idle_s: seconds after which a lane that nobody uses goes.
        programs: programs a lane serves before it is restarted.
        uses: programs a container serves, in all its lives as a lane, before it is removed.
    """

    lanes_max: int
    max_waiting: int
    refill: int
    idle_s: float
    programs: int = 64
    uses: int = 1000

    def removal(self, *, clean: bool, uses: int) -> str:
        """Why a container goes for good after a program; empty where it may stay.

        Args:
            clean: the program's end was reported by the supervisor.
            uses: programs it has served.
        """
        if not clean:
            return "unclean"
        return "used_up" if uses >= self.uses else ""

    def restart(self, *, good: bool, served: int, apart: bool = False) -> str:
        """Why a lane is restarted after a program; empty where it may serve its tenant again.

        Args:
            good: the program came to its own end, with whatever exit code.
            served: programs since the lane was started.
            apart: it was lent as one that nobody else has.
        """
        if not good:
            return "verdict"
        if served >= self.programs:
            return "programs"
        return "apart" if apart else ""

    def backoff_s(self, failures: int) -> float:
        """Pause before the next preparation after so many failures in a row, at least one."""
        return min(5.0, 0.1 * 2.0 ** min(failures - 1, 10))

    def admits(self, counts: LaneCounts) -> bool:
        """Whether one more program may wait."""
        return counts.waiting < self.max_waiting

    def spare(self, expected: float) -> int:
        """Lanes beyond those waited for that should be ready for anybody, or on their way.

        Args:
            expected: lanes taken into use while one is prepared.
        """
        return max(1, math.ceil(expected + math.sqrt(expected)))

    def to_prepare(self, counts: LaneCounts, missing: int) -> int:
        """Of lanes that are missing, those to begin preparing now, from parked ones or anew.

        While nobody waits and one is fresh the engine does one thing at a time, what it does with
        lanes that have ended included: each takes a processor for a tenth of a second, and the
        programs under way need one too.
        """
        room = self.lanes_max - counts.total + counts.parked
        calm = counts.fresh and not counts.waiting
        pace = 1 - counts.settling if calm else self.refill
        return max(0, min(missing, pace - counts.preparing, room))

    def is_in_the_way(self, counts: LaneCounts, unserved: int) -> bool:
        """Whether a lane at rest has to go so that one can be made for somebody who waits.

        Args:
            counts: what there is.
            unserved: programs waiting that no lane on its way will serve.
        """
        return counts.total >= self.lanes_max and unserved > counts.settling


def gives_up(
    tenant: str, waiting: Collection[str], held: Mapping[str, int], turn_programs: int
) -> bool:
    """Whether a tenant's lane goes to others now that its program has ended.

    Args:
        tenant: whose it is.
        waiting: tenants with waiting programs that no lane on its way will serve.
        held: lanes of each tenant, this one among them.
        turn_programs: programs of the tenant that this lane has run.
    """
    others = [other for other in waiting if other != tenant]
    if not others:
        return False
    fewest = min(held.get(other, 0) for other in others)
    mine = held.get(tenant, 0)
    if tenant not in waiting:
        return True
    if mine > fewest + 1:
        return True
    return mine > fewest and turn_programs >= TURN_PROGRAMS

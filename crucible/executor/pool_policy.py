"""How many sandboxes to keep: decisions without I/O, from counts and a clock that is handed in.

The pool keeps between a floor and a ceiling ready, following demand: enough for the programs that
arrive while one sandbox is being prepared, twice over, and two deviations of their number more. For
how long that takes, an engine that has a bad moment counts, not the usual one: a sandbox that is
ready costs nothing but some memory, since each program uses one up whenever it was made. It
prepares few at a time, one while enough are ready, because each costs the engine a hundred
milliseconds of processor time that programs under way need too.
"""

from __future__ import annotations

import math
from collections import Counter

import msgspec

#: Weight of the past in the arrival rate falls to 1/e in this many seconds.
RATE_MEMORY_S = 10.0
#: Preparation times below this many seconds are not believed.
LEAST_PREPARE_S = 0.02
#: What is expected of a preparation at the worst: the mean and so many mean deviations, as TCP
#: expects of a round trip, and at least so many seconds. Engines take 0.1 s, and now and then, when
#: others use the machine or its disk, several times as long.
DEVIATIONS = 4.0
BAD_MOMENT_S = 1.0


class PoolCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool has at one moment.

    Attributes:
        idle: ready and waiting.
        busy: running a program.
        preparing: being created or restarted.
        settling: being emptied or removed after a program.
        parked: stopped containers that a restart makes ready.
        waiting: programs waiting for a sandbox.
        unusual: those of them that no usual sandbox can serve.
    """

    idle: int = 0
    busy: int = 0
    preparing: int = 0
    settling: int = 0
    parked: int = 0
    waiting: int = 0
    unusual: int = 0

    @property
    def total(self) -> int:
        """Containers that exist."""
        return self.idle + self.busy + self.preparing + self.settling + self.parked


class PoolTotals(msgspec.Struct, kw_only=True):
    """What happened since the pool was opened.

    Attributes:
        programs: that got a sandbox.
        misses: those of them that found none ready.
        waited_s: seconds that those waited, together.
        failed_preparations: sandboxes that did not come up.
        retired: sandboxes that serve nobody any more as they are, by reason (see
            ``hooks.SandboxRetired``).
    """

    programs: int = 0
    misses: int = 0
    waited_s: float = 0.0
    failed_preparations: int = 0
    retired: Counter[str] = msgspec.field(default_factory=Counter)

    def took(self, waited_s: float, *, hit: bool) -> None:
        """A program got a sandbox after so many seconds; one was ready or not."""
        self.programs += 1
        if not hit:
            self.misses += 1
            self.waited_s += waited_s


class Demand:
    """The rate at which programs arrive, and what one preparation takes."""

    def __init__(self) -> None:
        self._rate_per_s = 0.0
        self._seen_s = -math.inf
        self._prepare_s = 0.1
        self._deviation_s = 0.0

    def arrived(self, now_s: float) -> None:
        """A program asked for a sandbox."""
        self._rate_per_s = self.rate_per_s(now_s) + 1.0 / RATE_MEMORY_S
        self._seen_s = now_s

    def prepared(self, took_s: float) -> None:
        """A sandbox took this long to become ready."""
        off_s = max(took_s, LEAST_PREPARE_S) - self._prepare_s
        self._prepare_s += 0.2 * off_s
        self._deviation_s += 0.2 * (abs(off_s) - self._deviation_s)

    def rate_per_s(self, now_s: float) -> float:
        """Arrivals a second, lately."""
        if math.isinf(self._seen_s):
            return 0.0
        return self._rate_per_s * math.exp((self._seen_s - now_s) / RATE_MEMORY_S)

    def during_preparation(self, now_s: float) -> float:
        """Arrivals expected while a sandbox is prepared in a bad moment of the engine."""
        worst_s = self._prepare_s + DEVIATIONS * self._deviation_s
        return self.rate_per_s(now_s) * max(BAD_MOMENT_S, worst_s)


class PoolPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one pool; see ``ExecutorConfig`` for what the numbers mean."""

    pool_min: int
    pool_max: int
    max_waiting: int
    refill: int
    max_age_s: float

    def admits(self, counts: PoolCounts) -> bool:
        """Whether one more program may wait."""
        return counts.waiting < self.max_waiting

    def wanted_idle(self, counts: PoolCounts, expected: float) -> int:
        """Usual sandboxes that should be ready or on their way now."""
        spread = 2 * math.sqrt(expected)
        ahead = max(self.pool_min, math.ceil(2 * expected + spread))
        usual = counts.waiting - counts.unusual
        return max(0, min(usual + ahead, self.pool_max - counts.busy))

    def to_prepare(self, counts: PoolCounts, expected: float) -> int:
        """Usual sandboxes to begin preparing now, from parked containers or new ones."""
        wanted = self.wanted_idle(counts, expected)
        missing = wanted - counts.idle - counts.preparing
        room = self.pool_max - counts.total + counts.parked
        # Half of them ready is enough to go slowly, and leave a processor to the programs.
        pace = 1 if counts.idle and 2 * counts.idle >= wanted else self.refill
        return max(0, min(missing, pace - counts.preparing, room))

    def to_make(self, counts: PoolCounts) -> int:
        """New containers that may be begun now."""
        return max(0, min(self.refill - counts.preparing, self.pool_max - counts.total))

    def is_in_the_way(self, counts: PoolCounts, unserved: int) -> bool:
        """Whether a usual container at rest has to go, since an unusual one has no room."""
        full = counts.total >= self.pool_max
        return full and unserved > counts.settling and counts.idle + counts.parked > 0

    def to_retire(self, counts: PoolCounts, expected: float) -> int:
        """Idle sandboxes more than twice what is wanted, to let go one look at a time."""
        return 1 if counts.idle > max(self.pool_min, 2 * self.wanted_idle(counts, expected)) else 0

    def is_too_old(self, age_s: float, jitter: float) -> bool:
        """Whether a waiting sandbox is to be replaced; ``jitter`` in 0..1 spreads the moment."""
        return age_s > self.max_age_s * (0.8 + 0.2 * jitter)

    def backoff_s(self, failures: int) -> float:
        """Pause before the next preparation after so many failures in a row."""
        return 0.0 if failures == 0 else min(5.0, 0.1 * 2.0 ** min(failures - 1, 10))

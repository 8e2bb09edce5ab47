"""How many sandboxes to keep, from counts and a clock turned by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.executor.pool_policy import Demand, PoolCounts, PoolPolicy

POLICY = PoolPolicy(pool_min=2, pool_max=8, max_waiting=4, refill=2, max_age_s=100.0)
SMALL = st.integers(0, 10)


def test_an_idle_pool_is_filled_to_its_floor() -> None:
    """Nobody asks: the floor is made ready, a few at a time, and then nothing more."""
    assert POLICY.to_prepare(PoolCounts(), 0.0) == 2
    assert POLICY.to_prepare(PoolCounts(preparing=1), 0.0) == 1
    assert POLICY.to_prepare(PoolCounts(idle=2), 0.0) == 0


def test_demand_raises_what_is_kept() -> None:
    """Twice what arrives during a preparation is kept ready, and two deviations more."""
    assert POLICY.wanted_idle(PoolCounts(), 1.0) == 4
    assert POLICY.wanted_idle(PoolCounts(), 3.0) == 8
    assert POLICY.wanted_idle(PoolCounts(busy=4), 30.0) == 4
    assert POLICY.wanted_idle(PoolCounts(waiting=3), 0.0) == 5


def test_refills_make_way_for_programs() -> None:
    """One at a time while half of what is wanted is ready; as many as may be once it is less."""
    assert POLICY.to_prepare(PoolCounts(idle=2), 1.0) == 1
    assert POLICY.to_prepare(PoolCounts(idle=2, preparing=1), 1.0) == 0
    assert POLICY.to_prepare(PoolCounts(idle=1, preparing=1), 1.0) == 1
    assert POLICY.to_prepare(PoolCounts(idle=1, waiting=3), 0.0) == 2


@given(SMALL, SMALL, SMALL, SMALL, SMALL, SMALL, st.floats(0, 100))
def test_the_ceiling_holds(
    idle: int, busy: int, preparing: int, settling: int, parked: int, waiting: int, expected: float
) -> None:
    """Whatever goes on, no preparation takes the pool past its ceiling or its pace."""
    counts = PoolCounts(
        idle=idle, busy=busy, preparing=preparing, settling=settling, parked=parked, waiting=waiting
    )
    count = POLICY.to_prepare(counts, expected)
    assert count >= 0
    if count:
        assert counts.total - parked + count <= POLICY.pool_max
        assert preparing + count <= POLICY.refill
    if made := POLICY.to_make(counts):
        assert counts.total + made <= POLICY.pool_max


def test_surplus_is_let_go_slowly() -> None:
    """Far more idle than wanted: one goes at each look; at the floor none."""
    assert POLICY.to_retire(PoolCounts(idle=5), 0.0) == 1
    assert POLICY.to_retire(PoolCounts(idle=2), 0.0) == 0


def test_an_unusual_program_gets_room() -> None:
    """When usual containers fill the pool, one at rest goes for each unusual one that waits."""
    full = PoolCounts(idle=8, waiting=1, unusual=1)
    assert POLICY.is_in_the_way(full, 1)
    assert not POLICY.is_in_the_way(PoolCounts(idle=7, settling=1, waiting=1, unusual=1), 1)
    assert not POLICY.is_in_the_way(PoolCounts(busy=8, waiting=1, unusual=1), 1)
    assert not POLICY.is_in_the_way(PoolCounts(idle=7), 1)


def test_waiting_is_bounded() -> None:
    """Beyond the limit of waiting programs, more are turned away."""
    assert POLICY.admits(PoolCounts(waiting=3))
    assert not POLICY.admits(PoolCounts(waiting=4))


def test_age_is_spread() -> None:
    """Sandboxes of one moment do not all expire at one moment."""
    assert not POLICY.is_too_old(80.0, 0.0)
    assert POLICY.is_too_old(81.0, 0.0)
    assert not POLICY.is_too_old(99.0, 1.0)
    assert POLICY.is_too_old(101.0, 1.0)


def test_failures_slow_the_pool_down() -> None:
    """Pauses double from a tenth of a second to five seconds."""
    assert [POLICY.backoff_s(n) for n in (0, 1, 2, 3)] == [0.0, 0.1, 0.2, 0.4]
    assert POLICY.backoff_s(1000) == 5.0


def test_the_rate_follows_arrivals_and_fades() -> None:
    """Steady arrivals are measured as what they are, and forgotten when they stop."""
    demand = Demand()
    assert demand.rate_per_s(0.0) == 0.0
    for turn in range(1000):
        demand.arrived(turn / 10)
    assert demand.rate_per_s(100.0) == pytest.approx(10.0, rel=0.1)
    assert demand.rate_per_s(200.0) < 0.01
    for _ in range(100):
        demand.prepared(0.2)
    assert demand.during_preparation(100.0) == pytest.approx(10.0, rel=0.1)


def test_an_engine_that_varies_is_expected_to_do_so_again() -> None:
    """A bad moment counts for a second at least, and for more where the engine has had worse."""
    demand = Demand()
    for turn in range(1000):
        demand.arrived(turn / 10)
    for turn in range(100):
        demand.prepared(1.0 if turn % 4 == 0 else 0.2)
    assert demand.during_preparation(100.0) > 13.0

"""The autoscale policy, by its properties."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.scaling.policy import Autoscaler, Load, Policy, wanted

LOADS = st.builds(
    Load,
    waiting=st.integers(0, 10_000),
    claimed=st.integers(0, 500),
    slots=st.integers(1, 32),
    oldest_s=st.none() | st.floats(0, 10_000),
    service_s=st.none() | st.floats(0.001, 600),
)
POLICIES = st.builds(
    lambda least, more, **others: Policy(least=least, most=max(1, least + more), **others),
    st.integers(0, 10),
    st.integers(0, 60),
    up_above=st.floats(5, 50),
    down_under=st.floats(0.5, 4),
    target_age_s=st.floats(1, 300),
    hold_s=st.floats(1, 300),
)


@pytest.mark.parametrize(
    ("waiting", "workers", "expected"),
    [(10, 1, 1), (11, 1, 2), (200, 2, 20), (40, 4, 4), (8, 4, 4), (7, 4, 2), (0, 4, 1)],
)
def test_the_default_is_the_rule_of_ten_and_two(waiting: int, workers: int, expected: int) -> None:
    """Up above ten queued a worker, down under two, nothing in between."""
    assert wanted(Policy(most=20), Load(waiting=waiting), workers) == expected


def test_late_messages_need_workers_by_their_service_time() -> None:
    """Few but long ones: five of a minute, two at once, within half a minute."""
    policy = Policy(most=20)
    late = Load(waiting=5, slots=2, oldest_s=31.0, service_s=60.0)
    assert wanted(policy, late, 1) == 5
    assert wanted(policy, Load(waiting=5, slots=2, oldest_s=29.0, service_s=60.0), 1) == 1


def test_none_at_all_may_be_enough_until_something_comes() -> None:
    """With a least of zero the first message starts a worker."""
    policy = Policy(least=0)
    assert wanted(policy, Load(waiting=0), 0) == 0
    assert wanted(policy, Load(waiting=1), 0) == 1


@given(POLICIES, st.lists(LOADS, min_size=1, max_size=40), st.floats(0.1, 100))
def test_bounds_hold(policy: Policy, loads: list[Load], step_s: float) -> None:
    """Whatever comes, there are neither fewer nor more workers than allowed."""
    scaler = Autoscaler(policy)
    for number, load in enumerate(loads):
        assert policy.least <= scaler.decide(load, number * step_s) <= policy.most


@given(POLICIES, LOADS, st.integers(0, 60), st.integers(0, 1000))
def test_more_waiting_never_means_fewer(
    policy: Policy, load: Load, workers: int, more: int
) -> None:
    """A longer queue does not stop a worker that a shorter one keeps."""
    longer = Load(
        waiting=load.waiting + more,
        claimed=load.claimed,
        slots=load.slots,
        oldest_s=load.oldest_s,
        service_s=load.service_s,
    )
    assert wanted(policy, longer, workers) >= wanted(policy, load, workers)


@given(POLICIES, LOADS, st.integers(0, 60))
def test_claimed_work_keeps_its_slots(policy: Policy, load: Load, workers: int) -> None:
    """Fewer workers have a slot for each message that is claimed, if the present ones have."""
    workers = policy.bounded(workers)
    fewer = wanted(policy, load, workers)
    if fewer < workers:
        assert fewer >= math.ceil(load.claimed / load.slots)


@given(POLICIES, LOADS, st.integers(1, 60))
def test_a_steady_load_is_answered_once(policy: Policy, load: Load, workers: int) -> None:
    """No load makes the number go up and down by itself."""
    steady = [
        wanted(policy, load, first := wanted(policy, load, policy.bounded(workers))),
        wanted(policy, load, first),
    ]
    up = first > policy.bounded(workers)
    assert all(value >= first if up else value <= first for value in steady)
    scaler = Autoscaler(policy, workers)
    seen = [scaler.decide(load, second * policy.hold_s / 4) for second in range(60)]
    changes = [after - before for before, after in itertools.pairwise(seen)]
    assert all(change >= 0 for change in changes) or all(change <= 0 for change in changes)
    assert seen[-1] == seen[-20]


@given(POLICIES, st.lists(LOADS, min_size=1, max_size=40))
def test_what_was_wanted_lately_stays(policy: Policy, loads: list[Load]) -> None:
    """A worker is stopped only if it was not wanted for the whole time to hold."""
    scaler = Autoscaler(policy)
    step_s = policy.hold_s / 5
    decided = [scaler.decide(load, number * step_s) for number, load in enumerate(loads)]
    for number in range(1, len(decided)):
        if decided[number] < decided[number - 1]:
            before = decided[number - 1]
            window = range(max(0, number - 4), number + 1)
            assert all(decided[at] <= before for at in window)
            assert number >= 5
            for at in window:
                assert wanted(policy, loads[at], decided[at - 1]) <= decided[number]

"""What is left of a quota, as it follows from what the script answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.broker.publishing.quota import InFlight, Quota, Rate, state_of
from crucible.broker.publishing.quota_arguments import QuotaArguments, exceeded

RATE = Rate("a", 1000.0, 10)


@pytest.mark.parametrize(
    ("level_us", "remaining", "retry_after_s"),
    [(0, 10, 0.0), (2, 9, 0.0), (1000, 9, 0.0), (9000, 1, 0.0), (9002, 0, 0.0), (10_000, 0, 0.001)],
)
def test_what_is_left_of_a_rate(level_us: int, remaining: int, retry_after_s: float) -> None:
    """Levels come as whole microseconds, rounded down, so one more is free than they say."""
    state = state_of(Quota((RATE,)), {"a": level_us}, {})
    assert state.remaining == remaining
    assert state.reset_s == level_us / 1e6
    assert state.retry_after_s == pytest.approx(retry_after_s, abs=2e-6)


def test_the_narrowest_bound_counts() -> None:
    """Of several rates and what is in flight, clients see what stops them first."""
    quota = Quota((RATE, Rate("b", 10_000.0, 5)), InFlight("c", 3, 60))
    state = state_of(quota, {"a": 1000, "b": 10_000}, {"c": 1})
    assert (state.remaining, state.reset_s) == (2, 0.01)
    assert state_of(quota, {"a": 0, "b": 50_000}, {"c": 0}).remaining == 0
    assert state_of(quota, {"a": 0, "b": 0}, {"c": 4}).remaining == 0


@given(st.floats(1, 1e6), st.integers(1, 10_000), st.floats(0, 1))
def test_what_remains_and_what_is_waited_for_agree(
    interval_us: float, burst: int, used: float
) -> None:
    """There is something to wait for exactly where nothing remains."""
    rate = Rate("a", interval_us, burst)
    state = state_of(Quota((rate,)), {"a": rate.capacity_us * used // 1}, {})
    assert 0 <= state.remaining <= burst + 1
    assert (state.remaining > 0) == (state.retry_after_s == 0)


def test_quotas_that_share_a_rate_name_it_once() -> None:
    """Two keys of a tenant in one flush use up one common rate."""
    common, held = Rate("tenant", 10.0, 5), InFlight("set", 7, 60)
    one = Quota((Rate("one", 10.0, 5), common), held)
    two = Quota((Rate("two", 10.0, 5), common))
    quotas = QuotaArguments([one, two, one])
    places: dict[str, int] = {}
    args = quotas.arguments(lambda key: places.setdefault(key, len(places) + 1))
    assert quotas.counts == (3, 1, 2)
    assert args == [
        *(1, "10.0", "50.0"),
        *(2, "10.0", "50.0"),
        *(3, "10.0", "50.0"),
        *(4, 60),
        *(1, 7, 2, 1, 2),
        *(0, 0, 2, 3, 2),
    ]
    assert list(places) == ["one", "tenant", "two", "set"]
    assert (quotas.number_of(one), quotas.number_of(two), quotas.number_of(None)) == (1, 2, 0)
    states = quotas.states([10, 20, 30], [6])
    assert states[one].remaining == 1
    assert states[two].remaining == 2


def test_an_error_says_when_to_try_again() -> None:
    """For a rate when its next unit is free; for what is in flight nobody knows, so soon."""
    state = state_of(Quota((RATE,)), {"a": 10_000}, {})
    assert exceeded(state, in_flight=False).retry_after_s == pytest.approx(0.001, abs=2e-6)
    assert exceeded(state, in_flight=True).retry_after_s == 1.0

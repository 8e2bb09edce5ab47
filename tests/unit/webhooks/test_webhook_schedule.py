"""When deliveries are tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crucible.webhooks.schedule import MAX_RETRY_AFTER_S, next_delay_s, retry_after_s

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_delays_are_those_of_the_specification() -> None:
    """Eight attempts, over more than a day."""
    delays = [next_delay_s(retries, 0.0) for retries in range(8)]
    assert delays == [5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0, None]
    assert next_delay_s(0, 1.0) == 5.5


@pytest.mark.parametrize(("asked_s", "delay_s"), [(3.0, 5.0), (60.0, 60.0), (1e9, 86_400.0)])
def test_a_receiver_may_ask_for_more_time(asked_s: float, delay_s: float) -> None:
    """Not for less, and not for ever."""
    assert next_delay_s(0, 0.0, asked_s) == delay_s


def test_retry_after_is_a_number_or_a_date() -> None:
    """RFC 9110, 10.2.3; anything else asks for nothing."""
    later = (NOW + timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    earlier = (NOW - timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert retry_after_s("120", NOW) == 120.0
    assert retry_after_s(later, NOW) == 90.0
    assert retry_after_s("9" * 400, NOW) == MAX_RETRY_AFTER_S
    for nothing in (None, "", "soon", "-5", "1.5", "²", earlier):
        assert retry_after_s(nothing, NOW) == 0.0

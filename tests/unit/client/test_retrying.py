from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from crucible.client.retrying import FIRST_PAUSE_S, LONGEST_PAUSE_S, Patience, seconds_asked


def test_pauses_grow_to_a_bound() -> None:
    """Each is at most twice the one before, and none longer than the bound."""
    patience = Patience(until=1e9)
    pauses = [patience.next_pause(0.0) for _ in range(12)]
    most = FIRST_PAUSE_S
    for pause in pauses:
        assert pause is not None
        assert most / 2 <= pause <= most
        most = min(2 * most, LONGEST_PAUSE_S)


def test_there_is_no_try_after_the_deadline() -> None:
    """Neither by itself, nor because the API asks for a longer pause."""
    assert Patience(until=10.0).next_pause(10.0) is None
    assert Patience(until=10.0).next_pause(5.0, asked_s=6.0) is None
    assert Patience(until=10.0).next_pause(5.0, asked_s=2.0) == 2.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("3", 3.0), (" 0 ", 0.0), (None, None), ("", None), ("soon", None)]
)
def test_seconds_of_retry_after(text: str | None, seconds: float | None) -> None:
    assert seconds_asked(text) == seconds


def test_a_date_of_retry_after() -> None:
    """RFC 9110 allows one; one that has passed asks for nothing."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (seconds_asked(later) or 0) <= 60
    assert seconds_asked("Wed, 21 Oct 2015 07:28:00 GMT") == 0

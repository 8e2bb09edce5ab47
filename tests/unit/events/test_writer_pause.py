"""How long a writer of events waits between two batches."""

from __future__ import annotations

import pytest

from crucible.events.writer import next_pause_s


@pytest.mark.parametrize(
    ("per_s", "pause_s"),
    [(0, 0.05), (100, 0.05), (1000, 0.05), (2000, 0.025), (10_000, 0.005), (50_000, 0.003)],
)
def test_events_that_come_at_a_rate_share_calls(per_s: int, pause_s: float) -> None:
    """Some fifty in a call, between twenty calls a second and three hundred."""
    for pause in (0.003, 0.05):
        for _ in range(20):
            pause = next_pause_s(pause, int(per_s * pause))
        assert pause == pytest.approx(pause_s, rel=0.05)


def test_a_burst_shortens_one_pause_only() -> None:
    """A batch of a client, and then one event after the other."""
    pause = next_pause_s(0.05, 500)
    assert pause == pytest.approx(0.005)
    for _ in range(10):
        pause = next_pause_s(pause, 1)
    assert pause == pytest.approx(0.05)

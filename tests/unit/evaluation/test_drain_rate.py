"""When a full queue will have room again."""

from __future__ import annotations

from crucible.evaluation.drain_rate import LONGEST_S, SHORTEST_S, UNKNOWN_S, WINDOW_S, DrainRate


class Clock:
    """Seconds that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(*noted: tuple[float, int]) -> DrainRate:
    clock = Clock()
    rate = DrainRate(clock)
    for at, completed in noted:
        clock.now = at
        rate.note(completed)
    return rate


def test_nothing_is_made_up_before_it_is_measured() -> None:
    assert measured().wait_s(10) == UNKNOWN_S
    assert measured((0, 5)).wait_s(10) == UNKNOWN_S
    assert measured((0, 5), (0, 9)).wait_s(10) == UNKNOWN_S


def test_the_wait_is_the_depth_over_the_rate() -> None:
    rate = measured((0, 100), (10, 200))
    assert rate.per_second() == 10
    assert [rate.wait_s(depth) for depth in (1, 10, 11, 300, 10_000)] == [
        SHORTEST_S, 1, 2, 30, LONGEST_S,
    ]  # fmt: skip


def test_while_nothing_completes_the_wait_is_the_longest() -> None:
    assert measured((0, 7), (10, 7)).wait_s(1) == LONGEST_S


def test_what_is_long_ago_does_not_count() -> None:
    rate = measured((0, 0), (10, 10_000), (10 + WINDOW_S, 10_030))
    assert rate.per_second() == 1


def test_a_count_that_began_anew_is_measured_anew() -> None:
    assert measured((0, 1000), (10, 2000), (11, 0)).per_second() is None
